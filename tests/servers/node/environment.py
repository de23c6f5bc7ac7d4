"""A container's environment and arguments, as a kubelet makes them: pure, from the pod and what the cluster holds."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.servers.node.client import Object

KNOWN_SOURCES = {"fieldRef", "configMapKeyRef", "secretKeyRef"}

Lookup = Callable[[str, str], Object | None]
"""Namespace and name to the object."""


class NotYet(Exception):
    """Something that the pod names is not there; it may come. The message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a pod can be given by the cluster."""

    config_map: Lookup
    secret: Lookup


def environment(
    pod: Object, container: Object, cluster: Cluster, services: Iterable[Object], base: dict[str, str]
) -> dict[str, str]:
    """`base`, then the variables of Services, then the container's own. Raises NotYet."""
    result = dict(base)
    for service in services:
        result |= service_variables(service)
    for source in container.get("envFrom", []):
        result |= _all_of(pod, source, cluster)
    for entry in container.get("env", []):
        if "valueFrom" not in entry:
            result[entry["name"]] = expand(entry.get("value", ""), result)
        elif (value := _value_from(pod, entry["valueFrom"], cluster)) is not None:
            result[entry["name"]] = value
    return result


def expand(text: str, values: dict[str, str]) -> str:
    """`$(NAME)` where it is known, `$$` for a dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


def field(pod: Object, path: str) -> str:
    """A field by its path in the downward API."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(metadata.get(match[1], {}).get(match[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
    }
    return str(known[path])


def service_variables(service: Object) -> dict[str, str]:
    """The variables by which old programs find Services; they can clash with a program's own, so they are real here."""
    host = service["spec"].get("clusterIP", "None")
    if host in {"", "None"}:
        return {}
    ports = service["spec"]["ports"]
    name = service["metadata"]["name"].upper().replace("-", "_")
    first = f"tcp://{host}:{ports[0]['port']}"
    result = {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(ports[0]["port"]), f"{name}_PORT": first}
    for each in ports:
        number, prefix = str(each["port"]), f"{name}_PORT_{each['port']}_TCP"
        if each.get("name"):
            result[f"{name}_SERVICE_PORT_{each['name'].upper().replace('-', '_')}"] = number
        result |= {prefix: f"tcp://{host}:{number}", f"{prefix}_PROTO": "tcp"}
        result |= {f"{prefix}_PORT": number, f"{prefix}_ADDR": host}
    return result


def config_data(item: Object) -> dict[str, bytes]:
    texts = {key: text.encode() for key, text in (item.get("data") or {}).items()}
    return texts | {key: base64.b64decode(text) for key, text in (item.get("binaryData") or {}).items()}


def secret_data(item: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in (item.get("data") or {}).items()}


def _all_of(pod: Object, source: Object, cluster: Cluster) -> dict[str, str]:
    reference = source.get("configMapRef") or source["secretRef"]
    data = _data(pod, reference, cluster, secret="secretRef" in source) or {}
    return {source.get("prefix", "") + key: value.decode() for key, value in data.items()}


def _value_from(pod: Object, source: Object, cluster: Cluster) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    reference = source.get("configMapKeyRef") or source["secretKeyRef"]
    data = _data(pod, reference, cluster, secret="secretKeyRef" in source)
    if data is None or reference["key"] not in data:
        if reference.get("optional"):
            return None
        raise NotYet(f"couldn't find key {reference['key']} in {reference['name']}")
    return data[reference["key"]].decode()


def _data(pod: Object, reference: Object, cluster: Cluster, *, secret: bool) -> dict[str, bytes] | None:
    lookup, read, kind = (
        (cluster.secret, secret_data, "secret") if secret else (cluster.config_map, config_data, "configmap")
    )
    found = lookup(pod["metadata"]["namespace"], reference["name"])
    if found is not None:
        return read(found)
    if reference.get("optional"):
        return None
    raise NotYet(f'{kind} "{reference["name"]}" not found')
