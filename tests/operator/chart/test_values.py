"""`values.yaml` and `values.schema.json`: neither has a value that the other lacks, and a typo is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.operator.chart.rendering import CHART, SETS, helm, with_values

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

FREE = {
    "commonLabels",
    "serviceAccount.annotations",
    "operator.resources",
    "operator.podAnnotations",
    "operator.nodeSelector",
    "operator.affinity",
    "metrics.serviceMonitor.labels",
}
"""Maps whose keys are the user's."""


def values(path: str, tree: Any) -> Iterator[str]:
    if isinstance(tree, dict) and path not in FREE:
        for key, child in tree.items():
            yield from values(f"{path}.{key}".lstrip("."), child)
    else:
        yield path


def described(path: str, schema: dict[str, Any]) -> Iterator[str]:
    if path in FREE or "properties" not in schema:
        yield path
        return
    assert schema["additionalProperties"] is False, path
    for key, child in schema["properties"].items():
        yield from described(f"{path}.{key}".lstrip("."), child)


def test_the_schema_knows_exactly_the_values() -> None:
    # Helm itself puts `global` there.
    assert set(values("", VALUES)) == set(described("", SCHEMA)) - {"global"}


def test_every_value_is_tried_at_something_else() -> None:
    tried = {path for each in SETS.values() for path in values("", each)}
    unlike = {"image.pullPolicy", "crds.keep"}  # tried by tests of their own
    assert set(values("", VALUES)) - tried == unlike


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name: str) -> None:
    done = with_values(SETS[name], "lint", "--strict", str(CHART), check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("operatr.replicas=2", "operatr"),
        ("operator.replicaCount=2", "replicaCount"),
        ("rbac.namespaced=yes", "rbac/namespaced"),
        ("operator.replicas=-1", "operator/replicas"),
        ("operator.namespaces={Apps}", "operator/namespaces/0"),
        ("operator.apiServerURL=http://insecure", "operator/apiServerURL"),
        ("image.digest=latest", "image/digest"),
        ("image.pullPolicy=Sometimes", "image/pullPolicy"),
        ("image.repository=", "image/repository"),
        ("metrics.serviceMonitor.renderMode=Maybe", "metrics/serviceMonitor/renderMode"),
        ("metrics.serviceMonitor.enabled=true", "enabled"),
        ("crds.install=true", "install"),
        ("commonLabels.team=-x", "commonLabels/team"),
    ],
)
def test_a_mistake_is_refused_by_its_name(setting: str, says: str) -> None:
    done = helm("template", "pg", str(CHART), "--set", setting, check=False)
    assert done.returncode != 0
    assert "values don't meet the specifications" in done.stderr
    assert says in done.stderr


def test_an_existing_service_account_must_be_named() -> None:
    done = helm("template", "pg", str(CHART), "--set", "serviceAccount.create=false", check=False)
    assert done.returncode != 0
    assert "serviceAccount.name is needed" in done.stderr
