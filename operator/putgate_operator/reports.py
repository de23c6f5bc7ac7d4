"""What the pods' reports say together. A report is a pod's word: it is believed about the UploadBucket whose pod it is,
for the settings that are wanted. It changes a status, and, when all pods say that an upload key is gone, makes another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from putgate_operator.keys import PATIENCE
from putgate_operator.observed import Observed, Unreachable
from putgate_operator.pods import Pod, Trouble
from putgate_operator.resources import UploadBucket
from putgate_protocol.report import Report, ReportedCondition

DETAILS = ("CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified")
"""Conditions that only reports can tell."""

HARMLESS = "BucketConfigured"
"""Some stores have no clean-up rules; a bucket is as good without them, so this one keeps nothing waiting."""

_SECRETS = ("SecretMissing", "SecretKeyMissing")

KEYS_MISSING = "UploadKeysMissing"

_SEVERITY = {("False", True): 0, ("False", False): 1, ("Unknown", True): 2, ("Unknown", False): 3}
_TIERS = ("none", "md5", "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`conditions`: the worst of each type that any report shows. `silent`: ready pods that gave no report, with why.
    `example`: the report whose bucket, integrity and limits are shown: of the lowest tier.
    """

    conditions: Mapping[str, ReportedCondition]
    silent: tuple[tuple[str, str], ...]
    example: Report | None

    @property
    def trouble(self) -> Trouble | None:
        """The worst of what keeps the store from being used as wanted."""
        found = [each for kind, each in self.conditions.items() if kind != HARMLESS and each.status == "False"]
        if not found:
            return None
        worst = min(found, key=lambda each: (not each.user_error, _order(each.type)))
        return Trouble(reason=worst.reason, message=worst.message, user_error=worst.user_error)


def judge(observed: Observed, pods: Iterable[Pod], settings_hash: str | None) -> Judgement:
    """`pods`: those of the wanted template."""
    staying = [pod for pod in pods if not pod.leaving]
    counted = {pod.uid: report for pod in staying if (report := counts(observed, pod, settings_hash))}
    conditions: dict[str, ReportedCondition] = {}
    for report in counted.values():
        for found in (_named(told, observed.bucket) for told in report.conditions):
            known = conditions.get(found.type)
            if known is None or _severity(found) < _severity(known):
                conditions[found.type] = found
    asked = [pod for pod in staying if pod.ready and pod.uid not in counted and pod.uid in observed.reports]
    silent = tuple((pod.name, _why(observed.reports[pod.uid])) for pod in asked)
    return Judgement(conditions=conditions, silent=silent, example=_example(counted.values()))


def _named(found: ReportedCondition, bucket: UploadBucket) -> ReportedCondition:
    """With the Secret and its keys, where credentials are missing: a pod knows them as files only."""
    secret = bucket.spec.storage.s3.credentials.secret_ref
    if found.type != "CredentialsValid" or found.reason not in _SECRETS or secret is None:
        return found
    keys = [secret.access_key_id_key, secret.secret_access_key_key]
    keys += [secret.session_token_key] if secret.session_token_key else []
    text = f"Secret {secret.name} with the keys {', '.join(keys)}: {found.message}"
    return found.model_copy(update={"message": text[:1024]})


def counts(observed: Observed, pod: Pod, settings_hash: str | None) -> Report | None:
    """The pod's report, where it is one about this UploadBucket and these settings."""
    report = observed.reports.get(pod.uid)
    if report is None or isinstance(report, Unreachable):
        return None
    genuine = report.pod.uid == pod.uid and report.uploadbucket_uid == observed.bucket.uid
    return report if genuine and report.settings_hash == settings_hash else None


def lost_keys(
    observed: Observed, pods: Iterable[Pod], settings_hash: str | None, accepted: Iterable[str]
) -> frozenset[str]:
    """Accepted upload keys that every pod misses that has run for long enough to have them. The word of one alone must
    not end the uploads of all.
    """
    missed = []
    for pod in pods:
        report = counts(observed, pod, settings_hash)
        if report and pod.started is not None and observed.now - pod.started > PATIENCE and not pod.leaving:
            says_so = any(each.reason == KEYS_MISSING for each in report.conditions)
            missed.append(frozenset(accepted) - frozenset(report.upload_keys) if says_so else frozenset())
    return frozenset.intersection(*missed) if missed else frozenset()


def _why(answer: Report | Unreachable) -> str:
    return answer.why if isinstance(answer, Unreachable) else "its report is about another pod or other settings"


def _example(reports: Iterable[Report]) -> Report | None:
    known = [report for report in reports if report.integrity is not None or report.bucket is not None]
    return min(known, key=_rank, default=None)


def _rank(report: Report) -> tuple[int, str]:
    tier = len(_TIERS) if report.integrity is None else _TIERS.index(report.integrity.tier)
    return tier, report.pod.name


def _severity(found: ReportedCondition) -> int:
    return _SEVERITY.get((found.status, found.user_error), 4)


def _order(kind: str) -> int:
    """What comes first is the cause of what follows."""
    order = ("Authentication", *DETAILS)
    return order.index(kind) if kind in order else len(order)
