"""What this process says of itself on its admin port: the present state as the model that the operator reads.

It puts values together and asks nobody: whoever reads the report must get it while the store hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC

from putgate_api.auth.authenticate import Authenticator
from putgate_api.prepare.probing import Grants
from putgate_api.prepare.status import Status
from putgate_api.prepare.steps import Prepared
from putgate_protocol.report import Claimed, Integrity, Pod, Report, ReportedCondition
from putgate_protocol.settings.api import ApiSettings

_MAX_FINDINGS = 32
_MAX_FINDING = 512
"""Characters. The operator reads no more of a report than fits many of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKeys:
    """Ids of the upload keys that are there; `missing`: in words, what is not."""

    ids: Sequence[str]
    missing: str | None


class Reporter:
    """`port_closed`: why nobody can call, where the certificate is missing. `environment`: where the pod's own name
    and uid stand, as POD_NAME and POD_UID.
    """

    def __init__(
        self,
        *,
        settings: ApiSettings,
        status: Status,
        authenticator: Authenticator,
        keys: Callable[[], LoadedKeys],
        port_closed: Callable[[], str | None],
        environment: Mapping[str, str],
        version: str,
    ) -> None:
        self._settings = settings
        self._status = status
        self._authenticator = authenticator
        self._keys = keys
        self._port_closed = port_closed
        self._pod = Pod(name=environment.get("POD_NAME", "")[:128], uid=environment.get("POD_UID", "")[:128])
        self._version = version

    def report(self) -> Report:
        prepared, identity, keys = self._status.prepared, self._settings.identity, self._keys()
        return Report(
            version=self._version,
            pod=self._pod,
            uploadbucket_uid=identity.uploadbucket_uid if identity else "",
            settings_hash=identity.settings_hash if identity else "",
            rules_hash=self._authenticator.rules_hash,
            upload_keys=list(keys.ids),
            state=self._status.state,
            conditions=[*self._status.conditions, self._authentication(keys)],
            integrity=_integrity(prepared) if prepared else None,
            capabilities=_capabilities(prepared) if prepared else {},
            limits=_limits(self._settings, prepared) if prepared else {},
            bucket=_claimed(prepared),
        )

    def _authentication(self, keys: LoadedKeys) -> ReportedCondition:
        found = self._authenticator.condition()
        if (closed := self._port_closed()) is not None:
            return ReportedCondition(
                type="Authentication", status="False", reason="SecretMissing", message=closed[:1024], user_error=True
            )
        if keys.missing is None or found.status == "False":
            return found
        return ReportedCondition(
            type="Authentication", status="False", reason="UploadKeysMissing", message=keys.missing[:1024]
        )


def _integrity(prepared: Prepared) -> Integrity:
    report = prepared.report
    return Integrity(
        tier=report.tier,
        probed_at=report.probed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        findings=[finding[:_MAX_FINDING] for finding in prepared.findings[:_MAX_FINDINGS]],
    )


def _capabilities(prepared: Prepared) -> dict[str, bool]:
    grants = Grants.of(prepared.report)
    return {
        "commitByPut": grants.commit_by_put,
        "conditionalPut": grants.conditional_put,
        "conditionalComplete": grants.conditional_complete,
        "completeTakesSHA256": grants.complete_sha256,
        "partCopy": grants.part_copy,
        "conditionalDelete": grants.conditional_delete,
    }


def _limits(settings: ApiSettings, prepared: Prepared) -> dict[str, int]:
    upload = settings.upload
    return {
        "partSize": prepared.facts.part_size,
        "maxObjectSize": upload.max_object_size,
        "maxParts": prepared.facts.max_parts,
        "urlTTLSeconds": int(upload.url_ttl.total_seconds()),
        "sessionTTLSeconds": int(upload.session_ttl.total_seconds()),
        "downloadURLTTLSeconds": int(settings.download.url_ttl.total_seconds()),
        "openUploadsPerOwner": settings.limits.open_uploads_per_owner,
        "requestsPerSecond": int(settings.limits.requests_per_second),
        "requestBurst": settings.limits.request_burst,
    }


def _claimed(prepared: Prepared | None) -> Claimed | None:
    if prepared is None or prepared.claim is None:
        return None
    return Claimed(created=prepared.claim.created, claim_id=prepared.claim.id[:128])
