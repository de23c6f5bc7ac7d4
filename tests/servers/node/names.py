"""Names of Services, by /etc/hosts: there is no DNS server here. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tests.servers.node.client import Object

DOMAIN = "cluster.local"


def hosts_file(pod: Object, address: str, services: Iterable[Object]) -> str:
    """In the order in which Services were made, so that a reader never meets a line that moves."""
    own = pod["metadata"]
    lines = ["127.0.0.1 localhost", "::1 localhost", f"{address} {own['name']}"]
    made = sorted(services, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["uid"]))
    lines += [_line(each, own["namespace"]) for each in made if each["spec"].get("clusterIP", "None") != "None"]
    return "\n".join(lines) + "\n"


def resolver_file() -> str:
    """Nobody answers there, at once: a name that is not in the file is unknown, and not a time-out."""
    return "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"


def _line(service: Object, namespace: str) -> str:
    name, where = service["metadata"]["name"], service["metadata"]["namespace"]
    names = [f"{name}.{where}.svc.{DOMAIN}", f"{name}.{where}.svc", f"{name}.{where}"]
    if where == namespace:
        names.append(name)
    return " ".join([service["spec"]["clusterIP"], *names])
