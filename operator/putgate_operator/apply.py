"""Desired → the cluster. Carries out what was decided, in its order, and decides nothing.

Each step is safe to repeat, so whatever fails is simply decided anew. Answers go into what is seen, so that the next
decision does not wait for a watch.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import structlog

from putgate_operator import events
from putgate_operator.api_server import ApiServer
from putgate_operator.brake import EVERY, Brake
from putgate_operator.deletion import FINALIZER
from putgate_operator.desired.drift import unchanged
from putgate_operator.desired.manifest import HASH
from putgate_operator.desired.outcome import Desired, Event, KeySecret
from putgate_operator.errors import AlreadyExists, Conflict, Failing, Forbidden, Gone, Hindered, Invalid
from putgate_operator.kinds import BY_NAME, DEPLOYMENT, JOB, SECRET, UPLOAD_BUCKET, Kind
from putgate_operator.observed import ChildKey, Manifest
from putgate_operator.seen import Place, Seen, concerned, place_of

KEY_BYTES = 32

log = structlog.get_logger("putgate.operator")


class Applier:
    """`instance`: this process, as events name it."""

    def __init__(self, server: ApiServer, seen: Seen, *, instance: str) -> None:
        self._server = server
        self._seen = seen
        self._instance = instance
        self._brake = Brake()

    async def carry_out(self, bucket: dict[str, Any], desired: Desired) -> None:
        """Raises `OperatorError`; `Conflict` and `Gone` mean that the cluster has moved on, `Hindered` that children
        are not what they should be, and that the status has not been written.
        """
        place = place_of(bucket)
        if desired.finalizer == "add":
            await self._finalize(bucket, add=True)
        await self._write_children(place, desired)
        await self.tell(bucket, desired.status, desired.events)
        if desired.finalizer == "remove":
            await self._finalize(bucket, add=False)

    async def tell(self, bucket: dict[str, Any], status: dict[str, Any], told: Iterable[Event]) -> None:
        """Write the status where it differs, and post events."""
        if status != bucket.get("status", {}):
            place, uid = place_of(bucket), bucket["metadata"]["uid"]
            self._seen.put(UPLOAD_BUCKET, await self._server.replace_status(UPLOAD_BUCKET, place, uid, status))
        for event in told:
            await events.post(self._server, bucket, event, self._instance)

    async def _write_children(self, place: Place, desired: Desired) -> None:
        """What is refused keeps only that from being written which runs with all the rest."""
        refused: Hindered | None = None
        for child, write in self._steps(place, desired):
            if refused is not None and child.kind in (DEPLOYMENT.kind, JOB.kind):
                continue
            try:
                await write()
            except (Forbidden, Invalid, Failing) as error:
                refused = refused or _refusal(child, error)
        if refused is not None:
            raise refused
        if (disputed := self._brake.disputed(place)) is not None:
            raise Hindered("ChildDisputed", _dispute(place, disputed), again=EVERY)

    def _steps(self, place: Place, desired: Desired) -> Iterator[tuple[ChildKey, Callable[[], Awaitable[None]]]]:
        for secret in desired.create_secrets:
            key = ChildKey(kind=SECRET.kind, name=secret.manifest["metadata"]["name"])
            yield key, partial(self._create_key, secret)
        for key in desired.delete:
            yield key, partial(self._delete, place, key)
        for manifest in desired.apply:
            key = ChildKey(kind=manifest["kind"], name=manifest["metadata"]["name"])
            yield key, partial(self._repair, place, key, manifest)

    def forget(self, place: Place) -> None:
        """The UploadBucket is gone."""
        self._brake.forget(place)

    async def _repair(self, place: Place, key: ChildKey, manifest: Manifest) -> None:
        if self._brake.allows(place, key, manifest["metadata"]["annotations"][HASH]):
            await self._apply(place, manifest)

    async def _apply(self, place: Place, manifest: Manifest) -> None:
        kind = BY_NAME[manifest["kind"]]
        metadata = manifest["metadata"]
        exact = "uid" in metadata
        if not exact and await self._is_held(place, kind, metadata["name"]):
            raise Conflict(f"{kind.kind} {metadata['name']} exists already")
        applied = await self._applied(kind, manifest, exact=exact)
        log.info("applied", kind=kind.kind, name=metadata["name"], namespace=place[0], created=not exact)
        self._seen.put(kind, applied)

    async def _applied(self, kind: Kind, manifest: Manifest, *, exact: bool) -> dict[str, Any]:
        """What is there after applying. Where another manager's entries in a list stand against ours (a second port
        of one name, say), applying alone never gets there: it takes over fields, but leaves entries to who made them.
        """
        if not exact:
            # Not forced where nothing should be: should somebody come first just now, their fields stay theirs.
            return await self._server.apply(kind, manifest, force=False)
        metadata = manifest["metadata"]
        known = self._seen.get(kind, metadata["namespace"], metadata["name"])
        version = None if known is None else known["metadata"].get("resourceVersion")
        try:
            # Only over what is known: a request that was held up on its way must not undo what another leader did.
            applied = await self._server.apply(kind, _at(manifest, version), force=True)
            if unchanged(applied, manifest):
                return applied
            version = applied["metadata"].get("resourceVersion")
        except Invalid as error:
            log.info("repairing", kind=kind.kind, name=manifest["metadata"]["name"], reason=str(error))
        # A merge replaces lists as wholes; the empty entry makes nobody the owner of any field, so that applying
        # afterwards owns, and can later take back, all that it names.
        whole = {**manifest, "metadata": {**metadata, "managedFields": [{}]}}
        merged = await self._server.merge(kind, metadata["namespace"], metadata["name"], _at(whole, version))
        return await self._server.apply(kind, _at(manifest, merged["metadata"].get("resourceVersion")), force=True)

    async def _is_held(self, place: Place, kind: Kind, name: str) -> bool:
        """Whether somebody has the name: an object that is not watched, or one that no watch has shown yet."""
        found = await self._server.get(kind, place[0], name)
        if found is None:
            return False
        found = {"apiVersion": kind.api_version, "kind": kind.kind, **found}
        if concerned(kind, found) == place:
            self._seen.put(kind, found)
        else:
            self._seen.hold(place, kind, name, found)
        return True

    async def _create_key(self, secret: KeySecret) -> None:
        """The key is made here, stored there, and known to nobody else: the operator cannot read it back."""
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        try:
            await self._server.create(SECRET, {**secret.manifest, "stringData": {"key": key}})
        except AlreadyExists:
            return
        log.info("created an upload key", key_id=secret.key_id, namespace=secret.manifest["metadata"]["namespace"])

    async def _delete(self, place: Place, child: ChildKey) -> None:
        """Only the very object that was looked at: what has been put in its place meanwhile stays."""
        kind = BY_NAME[child.kind]
        known = self._seen.get(kind, place[0], child.name)
        uid = None if known is None else known["metadata"].get("uid")
        await self._server.delete(kind, place[0], child.name, uid=uid)
        log.info("deleted", kind=child.kind, name=child.name, namespace=place[0])

    async def _finalize(self, bucket: dict[str, Any], *, add: bool) -> None:
        # Our own status write came after what was looked at, and somebody else's finalizer may have.
        metadata = (self._seen.get(UPLOAD_BUCKET, *place_of(bucket)) or bucket)["metadata"]
        others = [name for name in metadata.get("finalizers", ()) if name != FINALIZER]
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": [*others, FINALIZER] if add else others,
            }
        }
        try:
            written = await self._server.merge(UPLOAD_BUCKET, metadata["namespace"], metadata["name"], patch)
        except Gone:
            if add:
                raise
            self._seen.remove(UPLOAD_BUCKET, {**bucket, "metadata": metadata})
            return
        if "deletionTimestamp" in written["metadata"] and not written["metadata"].get("finalizers"):
            # That was the end of it, and the answer is of the version before: taken for news, it would be none, and
            # what was just cleared away would be made again.
            self._seen.remove(UPLOAD_BUCKET, written)
        else:
            self._seen.put(UPLOAD_BUCKET, written)


def _at(manifest: Manifest, version: str | None) -> Manifest:
    """Bound to one version of the object."""
    return (
        manifest if version is None else {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
    )


def _refusal(child: ChildKey, error: Forbidden | Invalid | Failing) -> Hindered:
    """What of a Deployment is invalid, its UploadBucket's owner has asked for: resources, or where it may run."""
    owners = isinstance(error, Invalid) and child.kind == DEPLOYMENT.kind
    where = "spec.api" if owners else "quotas, admission policies and webhooks, and the operator's role"
    text = f"The API server refuses to write {child}: {error.said} Look at {where}; it is tried again."
    return Hindered("ChildRefused", text, user_error=owners)


def _dispute(place: Place, child: ChildKey) -> str:
    kind = BY_NAME[child.kind].plural
    return (
        f"{child} does not stay as it is written: an admission webhook, another controller or somebody changes or "
        f"deletes it each time. `kubectl get -n {place[0]} {kind} {child.name} -o yaml --show-managed-fields` may tell "
        f"who. It is repaired every {EVERY:g} s."
    )
