"""What of an UploadBucket's own children nobody needs any more. What another made is never among it."""

from __future__ import annotations

from collections.abc import Iterator

from putgate_operator.deletion import stale_removals
from putgate_operator.desired import names
from putgate_operator.desired.drift import holds
from putgate_operator.desired.ownership import Owner, owner
from putgate_operator.kinds import CONFIG_MAP, SERVICE_ACCOUNT
from putgate_operator.observed import ChildKey, Observed, Raw, dig
from putgate_operator.plan import Plan, key_of


def obsolete(observed: Observed, plan: Plan) -> tuple[ChildKey, ...]:
    found = (*stale_removals(observed), *_settings(observed, plan), *_frozen(observed, plan), *_account(observed, plan))
    return tuple(key for key in found if not _leaving(observed.children[key]))


def _settings(observed: Observed, plan: Plan) -> Iterator[ChildKey]:
    """Old settings, when no pod names them, nor the Deployment, nor a ReplicaSet that it could be turned back to."""
    prefix = names.settings_prefix(observed.bucket)
    needed = {plan.settings_map.name} if plan.verdict.write else set()
    for raw in (plan.live, *observed.replica_sets):
        needed |= _mounted(dig(raw, "spec", "template", "spec"))
    for raw in observed.pods:
        needed |= _mounted(dig(raw, "spec"))
    for key, raw in observed.children.items():
        ours = owner(observed.bucket, raw) is Owner.OURS
        if key.kind == CONFIG_MAP.kind and key.name.startswith(prefix) and key.name not in needed and ours:
            yield key


def _mounted(pod: Raw | None) -> set[str]:
    volumes = dig(pod, "volumes", default=())
    return {name for volume in volumes if (name := dig(volume, "configMap", "name")) is not None}


def _frozen(observed: Observed, plan: Plan) -> Iterator[ChildKey]:
    """An immutable object that does not hold what its name promises can only be made anew."""
    for manifest in plan.writable():
        live = observed.children.get(key_of(manifest))
        if live is not None and is_frozen(live) and not holds(live.get("data"), manifest.get("data")):
            yield key_of(manifest)


def is_frozen(live: Raw) -> bool:
    return bool(dig(live, "immutable", default=False))


def _account(observed: Observed, plan: Plan) -> Iterator[ChildKey]:
    """The ServiceAccount that was made, when the owner has named another and no pod runs as the first."""
    key = ChildKey(kind=SERVICE_ACCOUNT.kind, name=names.api(observed.bucket))
    if key in map(key_of, plan.children) or owner(observed.bucket, observed.children.get(key)) is not Owner.OURS:
        return
    users = [dig(plan.live, "spec", "template", "spec"), *(dig(pod, "spec") for pod in observed.pods)]
    if all(dig(each, "serviceAccountName") != key.name for each in users):
        yield key


def _leaving(live: Raw) -> bool:
    return dig(live, "metadata", "deletionTimestamp") is not None
