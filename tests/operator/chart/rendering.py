"""What `helm template` makes of the chart, for the sets of values that matter; writes the golden files.

python -m tests.operator.chart.rendering
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.servers.kube import assets

CHART = Path(__file__).parents[3] / "charts" / "putgate"
GOLDEN = Path(__file__).parent / "golden"

RELEASE = "pg"
NAMESPACE = "putgate-system"

SETS: dict[str, dict[str, Any]] = {
    "cluster": {},
    "namespaced": {"rbac": {"namespaced": True}},
    "everything": {
        "image": {"repository": "registry.example/tools/putgate", "tag": "1.2.3", "digest": f"sha256:{'0' * 64}"},
        "nameOverride": "gate",
        "fullnameOverride": "gate-operator",
        "commonLabels": {"team": "storage", "app.kubernetes.io/name": "never"},
        "rbac": {"namespaced": True, "aggregate": False},
        "serviceAccount": {"name": "gatekeeper", "annotations": {"example.com/role": "operator"}},
        "operator": {
            "replicas": 1,
            "namespaces": ["apps", "media", "apps-2"],
            "workers": 4,
            "maxConcurrentRollouts": 3,
            "resyncSeconds": 60,
            "apiServerURL": "https://api.example.com",
            "monitoringNamespaces": ["monitoring"],
            "resources": {"limits": {"memory": "1Gi"}},
            "podAnnotations": {"example.com/note": "x"},
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {}},
        },
        "networkPolicy": {"enabled": False},
        "metrics": {"serviceMonitor": {"renderMode": "Always", "interval": "30s", "labels": {"release": "prometheus"}}},
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-extra", "namespace": "{{ .Release.Namespace }}"},
            },
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\n  namespace: {{ .Release.Namespace }}\n",
        ],
    },
    "small": {
        "crds": {"enabled": False},
        "serviceAccount": {"create": False, "name": "existing"},
        "podDisruptionBudget": {"enabled": False},
        "metrics": {"enabled": False},
        "operator": {"namespaces": ["apps"]},
    },
}
"""The ways to install it, and every value at something else than its default at least once."""


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Helm without a cluster, and without what its user has set up."""
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [assets.find()["helm"], *arguments],
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": home},
        )


def with_values(values: dict[str, Any], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return helm(*arguments, "-f", file.name, check=check)


def template(values: dict[str, Any], *arguments: str, namespace: str = NAMESPACE) -> str:
    return _template(json.dumps(values), namespace, arguments)


@cache
def _template(values: str, namespace: str, arguments: tuple[str, ...]) -> str:
    return with_values(json.loads(values), "template", RELEASE, str(CHART), "-n", namespace, *arguments).stdout


def rendered(
    values: dict[str, Any], *arguments: str, namespace: str = NAMESPACE
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Objects by kind, namespace and name."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in yaml.safe_load_all(template(values, *arguments, namespace=namespace)):
        if each is not None:
            metadata = each["metadata"]
            key = (each["kind"], metadata.get("namespace", ""), metadata["name"])
            assert key not in found, f"{key} is there twice"
            found[key] = each
    return found


def granted(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of rules as a Role has them; a subresource follows its resource and a slash."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def golden_text(name: str) -> str:
    """Without the CustomResourceDefinition, which is compared with its source elsewhere."""
    values = SETS[name]
    return template({**values, "crds": {"enabled": False}})


def main() -> None:
    for name in SETS:
        (GOLDEN / f"{name}.yaml").write_text(golden_text(name))


if __name__ == "__main__":
    main()
