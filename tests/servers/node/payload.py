"""What is in a pod's volume: files, by path, from what the cluster holds. Pure; `volumes` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tests.servers.node.client import Object
from tests.servers.node.environment import Cluster, NotYet, config_data, field, secret_data

DEFAULT_MODE = 0o644
OWN_TOKEN_MODE = 0o600
"""Of a token where the pod says whose it is (runAsUser, fsGroup)."""


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int


Payload = dict[str, File]
Token = tuple[str | None, int]
"""Audience and lifetime in seconds, as a volume asks for it."""

KINDS = ("configMap", "secret", "projected", "downwardAPI")


def payload(pod: Object, volume: Object, cluster: Cluster, tokens: Mapping[Token, str]) -> Payload:
    """The files of a volume of one of `KINDS`. Raises NotYet where something that is not optional is absent."""
    kind = next(kind for kind in KINDS if kind in volume)
    source = volume[kind]
    mode = source.get("defaultMode", DEFAULT_MODE)
    parts = source["sources"] if kind == "projected" else [{kind: source}]
    result: Payload = {}
    for part in parts:
        result |= _part(pod, part, mode, cluster, tokens)
    return result


def tokens_of(volume: Object) -> list[Token]:
    """The tokens that a volume needs."""
    sources = (each.get("serviceAccountToken") for each in volume.get("projected", {}).get("sources", []))
    return [_token(source) for source in sources if source is not None]


def owned(files: Payload, *, group: bool) -> Payload:
    """With the group's right to read, where the pod has a group for its volumes."""
    return {path: replace(each, mode=each.mode | 0o440) for path, each in files.items()} if group else files


def _token(source: Object) -> Token:
    return source.get("audience"), source.get("expirationSeconds", 3600)


def _part(pod: Object, part: Object, mode: int, cluster: Cluster, tokens: Mapping[Token, str]) -> Payload:
    (kind, source), *_ = part.items()
    match kind:
        case "configMap" | "secret":
            return _items(source, _data(pod, kind, source, cluster), mode)
        case "serviceAccountToken":
            private = {"fsGroup", "runAsUser"} & pod["spec"].get("securityContext", {}).keys()
            return {source["path"]: File(tokens[_token(source)].encode(), OWN_TOKEN_MODE if private else mode)}
        case "downwardAPI":
            return {
                each["path"]: File(field(pod, each["fieldRef"]["fieldPath"]).encode(), each.get("mode", mode))
                for each in source["items"]
            }
        case other:
            raise ValueError(f"volume source {other!r}")


def _data(pod: Object, kind: str, source: Object, cluster: Cluster) -> dict[str, bytes]:
    lookup, read = (cluster.secret, secret_data) if kind == "secret" else (cluster.config_map, config_data)
    name = source.get("name") or source["secretName"]
    found = lookup(pod["metadata"]["namespace"], name)
    if found is not None:
        return read(found)
    if source.get("optional"):
        return {}
    raise NotYet(f'{kind.lower()} "{name}" not found')


def _items(source: Object, data: dict[str, bytes], mode: int) -> Payload:
    if not source.get("items"):
        return {key: File(value, mode) for key, value in data.items()}
    result: Payload = {}
    for item in source["items"]:
        if item["key"] in data:
            result[item["path"]] = File(data[item["key"]], item.get("mode", mode))
        elif not source.get("optional"):
            raise NotYet(f"references non-existent config key: {item['key']}")
    return result
