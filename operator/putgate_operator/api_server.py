"""The Kubernetes API server, as far as the operator calls it: plain objects in, plain objects out.

Every mutating call first asks the guard, which refuses when this process may no longer be the leader. Nothing here
decides what to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from putgate_operator.errors import AlreadyExists, Conflict, Failing, Forbidden, Gone, Invalid, Unreachable
from putgate_operator.kinds import Kind

Raw = dict[str, Any]

FIELD_MANAGER = "putgate-operator"
READ_TIMEOUT = 10.0
WRITE_TIMEOUT = 3.0
"""Seconds for one request. A write that was begun by a leader must have ended before its lease can be another's:
longer than the lease's margin (see `election`) and two leaders could write; shorter and a busy server fails it."""

_LIST_PAGE = 500

_WRITES = {
    "apply": ("PATCH", "application/apply-patch+yaml"),
    "create": ("POST", "application/json"),
    "update": ("PUT", "application/json"),
    "patch": ("PATCH", "application/merge-patch+json"),
    "json-patch": ("PATCH", "application/json-patch+json"),
}
"""How each kind of write goes over HTTP: method and content type."""


class ApiServer:
    """`guard`: raises `NotLeader` before a mutating call that must not happen. `requests`: told of each call's verb,
    kind and status, for the metrics.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        guard: Callable[[], None] = lambda: None,
        read_timeout: float = READ_TIMEOUT,
        observe: Callable[[str, str, int], None] = lambda verb, kind, status: None,
    ) -> None:
        self._client = ApiClient(configuration)
        self._guard = guard
        self._read_timeout = read_timeout
        self._observe = observe

    async def aclose(self) -> None:
        await self._client.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Raw | None:
        return await self._call("GET", "get", kind, kind.path(namespace, name))

    async def list_all(self, kind: Kind, namespace: str | None, *, label: str | None = None) -> tuple[list[Raw], str]:
        """All objects, page by page, and the version of the cluster that they show; `label`: one that must be there.
        Their kinds are filled in.
        """
        found: list[Raw] = []
        query: dict[str, str] = {"limit": str(_LIST_PAGE)} | ({"labelSelector": label} if label else {})
        while True:
            page = await self._call("GET", "list", kind, kind.path(namespace), query=query)
            if page is None:
                # Taken for an empty list, it would make everything vanish.
                raise Unreachable(f"the API server knows no {kind.plural}; is the CRD installed?")
            found += ({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page.get("items", ()))
            if not (token := page.get("metadata", {}).get("continue")):
                return found, str(page.get("metadata", {}).get("resourceVersion", ""))
            query["continue"] = token

    async def look(self, kind: Kind, namespace: str | None) -> None:
        """Whether objects of a kind can be listed; raises why not."""
        if await self._call("GET", "list", kind, kind.path(namespace), query={"limit": "1"}) is None:
            raise Unreachable(f"the API server knows no {kind.plural}; is the CRD installed?")

    async def apply(self, kind: Kind, body: Raw, *, force: bool) -> Raw:
        """Server-side apply with our field manager. With `metadata.uid` only that very object is changed. `force`:
        take fields over from other managers; else raises `Conflict` when another one owns a field.
        """
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._write("apply", kind, path, body, force=str(force).lower())

    async def create(self, kind: Kind, body: Raw) -> Raw:
        """Raises `AlreadyExists`."""
        path = kind.path(body["metadata"].get("namespace"))
        return await self._write("create", kind, path, body)

    async def replace(self, kind: Kind, body: Raw) -> Raw:
        """Compare and swap by the body's resourceVersion. Raises `Conflict`."""
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._write("update", kind, path, body)

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Raw, *, subresource: str | None = None
    ) -> Raw:
        """A JSON merge patch. Raises `Conflict` when the patch names an old resourceVersion, `Gone`."""
        path = kind.path(namespace, name, subresource)
        return await self._write("patch", kind, path, patch)

    async def replace_status(self, kind: Kind, place: tuple[str, str], uid: str, status: Raw) -> Raw:
        """Write the whole status; what it no longer names is gone. Raises `Invalid` when the uid is another's."""
        path = kind.path(*place, "status")
        patch: list[Raw] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._write("json-patch", kind, path, patch)

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> None:
        """Absent is success; `uid`: only this very object, else `Conflict`. Dependents are removed in background."""
        self._guard()
        body: Raw = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._call("DELETE", "delete", kind, kind.path(namespace, name), body=body)

    async def _write(self, verb: str, kind: Kind, path: str, body: Raw | list[Raw], **query: str) -> Raw:
        self._guard()
        method, content_type = _WRITES[verb]
        written = await self._call(
            method,
            verb,
            kind,
            path,
            query={"fieldManager": FIELD_MANAGER, **query},
            body=body,
            content_type=content_type,
        )
        if written is None:
            raise Gone(f"{kind.kind} {path.rpartition('/')[2]} is gone")
        return written

    async def _call(
        self,
        method: str,
        verb: str,
        kind: Kind,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Raw | list[Raw] | None = None,
        content_type: str = "application/json",
    ) -> Raw | None:
        """The answer's object; None for 404."""
        status = 0
        try:
            _, url, headers, _, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                auth_settings=["BearerToken"],
            )
            answer = await self._client.rest_client.request(
                method,
                url,
                headers=headers,
                body=body,
                _request_timeout=self._read_timeout if method == "GET" else WRITE_TIMEOUT,
            )
            text = await answer.read()
            status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"the API server does not answer: {type(error).__name__}") from error
        finally:
            self._observe(verb, kind.kind, status)
        return _judged(status, text, f"{verb} {kind.kind} {path}")


def _judged(status: int, text: bytes, what: str) -> Raw | None:
    try:
        answer = cast("Raw", json.loads(text))
    except ValueError:
        answer = {}
    if status < 300:
        return answer
    if status == 404:
        return None
    said = str(answer.get("message", "no message"))[:500]
    message = f"{what}: {said}"
    match status, answer.get("reason"):
        case 403, _:
            raise Forbidden(what, said)
        case 409, "AlreadyExists":
            raise AlreadyExists(message)
        case 409, _:
            raise Conflict(message)
        case ((400 | 422), _):
            raise Invalid(what, said)
        case 410, _:
            raise Gone(message)
        case 500, _:
            raise Failing(what, said)
        case _:
            raise Unreachable(f"{message} (HTTP {status})")
