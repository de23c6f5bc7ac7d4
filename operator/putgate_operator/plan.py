"""All that is wanted for one UploadBucket, before it is compared with what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from putgate_operator import pods, reports, rollout
from putgate_operator.desired import (
    client_config,
    disruption_budget,
    names,
    network_policy,
    rules,
    service,
    service_account,
    settings,
)
from putgate_operator.desired.deployment import SETTINGS_HASH, TEMPLATE_HASH, UPLOAD_KEYS, deployment, pod_template
from putgate_operator.desired.ownership import Owner, owner
from putgate_operator.key_state import KeyState
from putgate_operator.keys import ROTATE, Facts, Step, step
from putgate_operator.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE, SERVICE_ACCOUNT
from putgate_operator.observed import ChildKey, Manifest, Observed, Raw, dig
from putgate_operator.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`children`: in the order in which a crash between two writes is harmless. `deployment`, `settings_map`,
    `client_map`: keys of three of them. `live`: the Deployment that is there and ours. `pods`: its own.
    `conflicts`: names that children need and others hold.
    """

    children: tuple[Manifest, ...]
    deployment: ChildKey
    settings_map: ChildKey
    client_map: ChildKey
    settings_hash: str
    template: str
    keys: Step
    verdict: rollout.Verdict
    live: Raw | None
    pods: tuple[Pod, ...]
    conflicts: dict[ChildKey, Owner]

    def writable(self) -> Iterator[Manifest]:
        """What may be written now."""
        return (child for child in self.children if self._may_write(key_of(child)))

    def _may_write(self, key: ChildKey) -> bool:
        if key in self.conflicts:
            return False
        if key == self.deployment:
            return self.deploys
        if key == self.settings_map:
            return self.verdict.write
        return key != self.client_map or not self.unreachable

    @property
    def deploys(self) -> bool:
        """The Deployment is written only with all that it mounts and runs as being ours."""
        needed = (DEPLOYMENT.kind, SERVICE_ACCOUNT.kind, CONFIG_MAP.kind)
        return self.verdict.write and not any(key.kind in needed and key != self.client_map for key in self.conflicts)

    @property
    def unreachable(self) -> bool:
        """Another holds the Service's name, and nobody must be sent to it."""
        return any(key.kind == SERVICE.kind for key in self.conflicts)


def key_of(manifest: Manifest) -> ChildKey:
    return ChildKey(kind=manifest["kind"], name=manifest["metadata"]["name"])


def plan(observed: Observed) -> Plan:
    """Raises `ValidationError` for a spec that makes files which `putgate-api` would refuse."""
    bucket, operator = observed.bucket, observed.settings
    found = observed.child(DEPLOYMENT.kind, names.api(bucket))
    live = found if owner(bucket, found) is Owner.OURS else None
    own = pods.own(observed, live)
    keys = _keys(observed, live, own)
    file = settings.settings_file(bucket, observed.namespace, keys.state.keys, operator)
    template = pod_template(bucket, operator, file.hash, keys.state.keys)
    template_hash = template["metadata"]["annotations"][TEMPLATE_HASH]
    verdict = rollout.judge(
        live,
        template=template_hash,
        generation=bucket.generation,
        keys_moved=keys.moved,
        rolling=observed.rolling,
        slots=operator.max_concurrent_rollouts,
    )
    api = deployment(bucket, operator, template, key_state=keys.state.to_text(), rollout=str(verdict.cause))
    settings_map, client_map = settings.config_map(bucket, file), client_config.config_map(bucket)
    account = service_account.service_account(bucket)
    children = (
        *([account] if account else []),
        network_policy.network_policy(bucket, operator),
        rules.config_map(bucket, rules.rules_file(bucket)),
        settings_map,
        service.service(bucket),
        disruption_budget.disruption_budget(bucket),
        api,
        client_map,
    )
    return Plan(
        children=children,
        deployment=key_of(api),
        settings_map=key_of(settings_map),
        client_map=key_of(client_map),
        settings_hash=file.hash,
        template=template_hash,
        keys=keys if verdict.write else replace(keys, create=(), delete=(), events=()),
        verdict=verdict,
        live=live,
        pods=own,
        conflicts=_conflicts(observed, children),
    )


def _keys(observed: Observed, live: Raw | None, own: tuple[Pod, ...]) -> Step:
    bucket = observed.bucket
    annotation = annotated(live, UPLOAD_KEYS)
    recorded = KeyState.from_text(annotation)
    running = [pod for pod in own if pod.template == annotated(live, TEMPLATE_HASH)]
    accepted = recorded.accepted if recorded else ()
    facts = Facts(
        uid=bucket.uid,
        token=bucket.annotations.get(ROTATE, ""),
        everywhere=rollout.everywhere(live, pods.serving(observed)),
        lost=reports.lost_keys(observed, running, annotated(live, SETTINGS_HASH), accepted),
        lifetime=bucket.spec.upload.lifetime,
        now=observed.now,
    )
    return step(annotation, bucket.status, facts)


def _conflicts(observed: Observed, children: tuple[Manifest, ...]) -> dict[ChildKey, Owner]:
    found = {key: owner(observed.bucket, observed.children.get(key)) for key in map(key_of, children)}
    return {key: whose for key, whose in found.items() if whose in (Owner.FOREIGN, Owner.PREDECESSOR)}


def annotated(live: Raw | None, key: str) -> str | None:
    found = dig(live, "metadata", "annotations", key)
    return None if found is None else str(found)
