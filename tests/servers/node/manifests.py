"""Manifests for tests of the stand-in: small, and as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PORT = 8080
PUPPET = ["python", str(Path(__file__).with_name("puppet.py")), str(PORT)]

Manifest = dict[str, Any]

POD_NAME = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def container(*, command: list[str] | None = None, env: list[Manifest] | None = None, **more: Any) -> Manifest:
    return {
        "name": "main",
        "image": "putgate",
        "command": command or PUPPET,
        "env": [POD_NAME, *(env or [])],
        "ports": [{"name": "http", "containerPort": PORT}],
    } | more


def ready_probe(**more: Any) -> Manifest:
    return {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1} | more


def pod(namespace: str, name: str, main: Manifest | None = None, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"containers": [main or container()], "terminationGracePeriodSeconds": 2} | spec,
    }


def workload(
    kind: str, namespace: str, name: str, main: Manifest, *, template: Manifest | None = None, **spec: Any
) -> Manifest:
    """A Deployment or a DaemonSet."""
    inner = {"containers": [main], "terminationGracePeriodSeconds": 2} | (template or {})
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": inner},
        }
        | spec,
    }


def job(namespace: str, name: str, main: Manifest, *, restart: str = "Never", **spec: Any) -> Manifest:
    inner = {"containers": [main], "restartPolicy": restart, "terminationGracePeriodSeconds": 2}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"template": {"spec": inner}} | spec,
    }


def service(namespace: str, name: str, *, port: int = 80) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": "http"}]},
    }


def config_map(namespace: str, name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": data}


def secret(namespace: str, name: str, **data: str) -> Manifest:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
