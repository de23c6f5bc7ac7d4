"""The cluster as last seen: objects by kind and place, as watches, sweeps and the operator's own writes showed them.

It may be behind; what is decided on it is idempotent, and what it has missed a sweep finds. It never calls anybody.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from putgate_operator.kinds import LABEL, NAMESPACE, POD, REPLICA_SET, UPLOAD_BUCKET, Kind

Raw = dict[str, Any]
Place = tuple[str, str]
"""Namespace (empty for objects without one) and name."""

GONE = 4096
"""How many deleted objects are remembered by uid, so that a late answer does not bring one back. Only as many are
needed as can be deleted while one request is under way."""


class Seen:
    """Children are found by `LABEL`, whose value is their UploadBucket's name."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Place, Raw]] = {}
        self._children: dict[Place, dict[tuple[str, str], Raw]] = {}
        self._gone: OrderedDict[str, str] = OrderedDict()
        self._holders: dict[Place, dict[tuple[str, str], Raw]] = {}
        self._changed: set[Place] = set()

    def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        return self._objects.get(kind.kind, {}).get((namespace, name))

    def all(self, kind: Kind) -> Iterator[Raw]:
        yield from self._objects.get(kind.kind, {}).values()

    def children(self, bucket: Place) -> dict[tuple[str, str], Raw]:
        """An UploadBucket's labelled objects, and what was found to hold a name of theirs, by (kind, name)."""
        return {**self._holders.get(bucket, {}), **self._children.get(bucket, {})}

    def holders(self, bucket: Place) -> dict[tuple[str, str], Raw]:
        """Objects that nobody watches, because they lack the label, but that hold a name that a child needs."""
        return dict(self._holders.get(bucket, {}))

    def hold(self, bucket: Place, kind: Kind, name: str, body: Raw | None) -> None:
        """Note who holds a child's name; None: nobody does any longer."""
        if body is not None:
            self._holders.setdefault(bucket, {})[kind.kind, name] = body
        elif bucket in self._holders:
            self._holders[bucket].pop((kind.kind, name), None)
            if not self._holders[bucket]:
                del self._holders[bucket]

    def put(self, kind: Kind, body: Raw) -> Place:
        """Remember an object; an older version than is known changes nothing. Returns whom it concerns."""
        place = place_of(body)
        gone = self._gone.get(str(body["metadata"].get("uid")))
        if gone is not None and not _newer(body, gone):
            # The answer to a write can come after the event that its object was deleted.
            return concerned(kind, body) or place
        objects = self._objects.setdefault(kind.kind, {})
        known = objects.get(place)
        if known is None or not _is_known(body, known):
            body = _kept(kind, body)
            self._unlink(kind, known)
            objects[place] = body
            if (owner := concerned(kind, body)) is not None:
                self._changed.add(owner)
                if kind is not UPLOAD_BUCKET:
                    self._children.setdefault(owner, {})[kind.kind, place[1]] = body
        return concerned(kind, body) or place

    def remove(self, kind: Kind, body: Raw, version: str | None = None) -> Place:
        """Forget an object, unless another has taken its place. `version`: at which it was seen to be gone; it may
        come back later, with the label that it had lost.
        """
        place = place_of(body)
        self._gone[str(body["metadata"].get("uid"))] = version or _version(body)
        if len(self._gone) > GONE:
            self._gone.popitem(last=False)
        known = self._objects.get(kind.kind, {}).get(place)
        if known is not None and known["metadata"].get("uid") == body["metadata"].get("uid"):
            del self._objects[kind.kind][place]
            self._unlink(kind, known)
        return concerned(kind, body) or place

    def replace_all(self, kind: Kind, namespace: str | None, bodies: Iterable[Raw], version: str) -> set[Place]:
        """What a list of this version showed is all there was, in `namespace` or everywhere; what is known to be
        newer stays. Returns whom the differences concern.
        """
        listed = {place_of(body): body for body in bodies}
        changed: set[Place] = set()
        for place, known in list(self._objects.get(kind.kind, {}).items()):
            if namespace in (None, place[0]) and place not in listed and not _newer(known, version):
                changed.add(self.remove(kind, known, version))
        for place, body in listed.items():
            known_now = self._objects.get(kind.kind, {}).get(place)
            if known_now is None or _version(known_now) != _version(body):
                changed.add(self.put(kind, body))
        return changed

    def take_changed(self) -> set[Place]:
        """The UploadBuckets about which anything has changed since this was last called."""
        changed, self._changed = self._changed, set()
        return changed

    def _unlink(self, kind: Kind, known: Raw | None) -> None:
        owner = None if known is None else concerned(kind, known)
        if known is None or owner is None:
            return
        self._changed.add(owner)
        if owner not in self._children:
            return
        self._children[owner].pop((kind.kind, known["metadata"]["name"]), None)
        if not self._children[owner]:
            del self._children[owner]


def wish(bucket: Raw) -> tuple[Any, ...]:
    """What of an UploadBucket says what is wanted; its status does not."""
    metadata = bucket["metadata"]
    return tuple(
        metadata.get(key) for key in ("uid", "generation", "deletionTimestamp", "annotations", "labels", "finalizers")
    )


def place_of(body: Raw) -> Place:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def concerned(kind: Kind, body: Raw) -> Place | None:
    """The UploadBucket that an object concerns; None for what concerns none, or many."""
    if kind is NAMESPACE:
        return None
    if kind is UPLOAD_BUCKET:
        return place_of(body)
    label = (body["metadata"].get("labels") or {}).get(LABEL)
    return None if label is None else (body["metadata"].get("namespace", ""), label)


def _kept(kind: Kind, body: Raw) -> Raw:
    """Without what nobody here asks for, which is most of an object: who set which field, and what containers are.
    What is kept shares its strings with others: parsed one by one, thousands of objects hold thousands of equal keys.
    """
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = {**body, "metadata": metadata}
    if kind is POD:
        kept["spec"] = _pod_spec(body.get("spec"))
    elif kind is REPLICA_SET:
        template = (body.get("spec") or {}).get("template") or {}
        kept["spec"] = {"template": {"spec": _pod_spec(template.get("spec"))}}
    shared: Raw = _shared(kept)
    return shared


def _pod_spec(spec: Raw | None) -> Raw:
    found = spec or {}
    return {key: found[key] for key in ("hostNetwork", "serviceAccountName", "volumes") if key in found}


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(key): _shared(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shared(inner) for inner in value]
    return sys.intern(value) if isinstance(value, str) else value


def _version(body: Raw) -> str:
    return str(body["metadata"].get("resourceVersion", ""))


def _newer(body: Raw, version: str) -> bool:
    own = _version(body)
    return own.isdecimal() and version.isdecimal() and int(own) > int(version)


def _is_known(body: Raw, known: Raw) -> bool:
    """Whether `body` is the state that is known, or an earlier one: of the same object, or of one before it."""
    new, old = _version(body), _version(known)
    return new.isdecimal() and old.isdecimal() and int(new) <= int(old)
