"""kopf's watches → what is seen, and keys on the queue. An event means "look again" and nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kopf

from putgate_operator.kinds import LABEL, NAMESPACE, UPLOAD_BUCKET, WATCHED, Kind
from putgate_operator.observed import dig
from putgate_operator.seen import Place, Seen, place_of, wish

SERVER_TIMEOUT = 300
"""Seconds after which a watch is asked for anew, so that a connection that died silently is noticed."""


class Watching:
    """`changed`: told which UploadBucket to look at. `last_event`: when anything was last seen, monotonic seconds."""

    def __init__(self, seen: Seen, changed: Callable[[Place], None], *, namespaces: bool) -> None:
        self._seen = seen
        self._changed = changed
        self._namespaces = namespaces
        self.last_event = time.monotonic()

    def registry(self, deliver: Callable[..., None]) -> kopf.OperatorRegistry:
        """`deliver`: takes a function and its arguments to where it may run."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kinds = (UPLOAD_BUCKET, *WATCHED, *((NAMESPACE,) if self._namespaces else ()))
        for kind in kinds:
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")(
                self._handler(kind, deliver)
            )
        return registry

    def settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        # Which kinds there are is known; in a namespaced install the role would not allow to look.
        settings.scanning.disabled = True
        settings.peering.standalone = True
        settings.persistence.diffbase_storage = _NoDiffs()
        settings.watching.server_timeout = SERVER_TIMEOUT
        settings.watching.client_timeout = SERVER_TIMEOUT + 10
        for kind in WATCHED:
            settings.watching.label_selectors[kind.api_version, kind.plural] = LABEL
        return settings

    def _handler(self, kind: Kind, deliver: Callable[..., None]) -> Callable[..., Any]:
        async def noted(event: dict[str, Any], **_: Any) -> None:
            deliver(self.note, kind, str(event.get("type") or "ADDED"), dict(event["object"]))

        return noted

    def note(self, kind: Kind, event_type: str, body: dict[str, Any]) -> None:
        """One watch event. Own status writes concern nobody."""
        self.last_event = time.monotonic()
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        if kind is NAMESPACE:
            self._namespace(event_type, body)
            return
        place = place_of(body)
        known = self._seen.get(kind, *place)
        concerns = self._seen.remove(kind, body) if event_type == "DELETED" else self._seen.put(kind, body)
        if event_type == "DELETED" or _is_news(kind, known, self._seen.get(kind, *place)):
            self._changed(concerns)

    def _namespace(self, event_type: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        known = self._seen.get(NAMESPACE, "", name)
        if event_type == "DELETED":
            self._seen.remove(NAMESPACE, body)
        else:
            self._seen.put(NAMESPACE, body)
        if dig(known, "metadata", "deletionTimestamp") != dig(body, "metadata", "deletionTimestamp"):
            for bucket in self._seen.all(UPLOAD_BUCKET):
                if bucket["metadata"]["namespace"] == name:
                    self._changed((name, bucket["metadata"]["name"]))


def _is_news(kind: Kind, known: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    """The echo of an own write is none; nor is the status of an UploadBucket, which only the operator writes."""
    if known is None or now is None:
        return True
    return wish(known) != wish(now) if kind is UPLOAD_BUCKET else known is not now


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf copies every object to tell what has changed in it; nobody here asks."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
