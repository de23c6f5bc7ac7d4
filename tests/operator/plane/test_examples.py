"""Every example is accepted by a real API server as it stands, and its UploadBucket by the operator's decision."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.operator.plane.operators import Home

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def test_the_list_of_examples_is_whole() -> None:
    text = (EXAMPLES[0].parent / "README.md").read_text()
    assert {each.name for each in EXAMPLES} == {each.name for each in EXAMPLES if f"[{each.name}]({each.name})" in text}
    assert len(EXAMPLES) == 6


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_applied(home: Home, path: Path) -> None:
    objects = list(yaml.safe_load_all(path.read_text()))
    home.kubectl("apply", "--server-side", "--validate=strict", "-f", str(path))
    buckets = [each["metadata"]["name"] for each in objects if each["kind"] == "UploadBucket"]
    if buckets:
        home.operator()
    for name in buckets:
        home.until_ready(name)
