"""The metrics are those that the documentation lists, their labels are bounded, and they tell outcomes apart."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
from prometheus_client import Counter, Gauge, Histogram

from putgate_api.metrics import Metrics
from tests.api.calls import Calls
from tests.servers.api import ApiProcess

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def documented() -> set[tuple[str, frozenset[str]]]:
    found = re.findall(r"`(putgate_api_[a-z_]+)(?:\{([a-z,]+)\})?`", OPERATIONS.read_text())
    listed = {(name, frozenset(labels.split(",")) if labels else frozenset()) for name, labels in found}
    # Some are spoken of elsewhere without their labels.
    return {(name, labels) for name, labels in listed if labels or not any(n == name and x for n, x in listed)}


def exposed() -> dict[str, Counter | Gauge | Histogram]:
    found = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            [family] = metric.describe()
            found[f"{family.name}_total" if family.type == "counter" else family.name] = metric
    return found


def test_the_documentation_lists_exactly_the_metrics_that_there_are() -> None:
    found = exposed()
    assert {name for name, _ in documented()} == set(found)
    for name, labels in documented():
        if labels:
            found[name].labels(**dict.fromkeys(labels, "x"))  # refuses any other set
        else:
            [family] = found[name].collect()
            assert family.samples, f"{name} has labels"


async def test_a_copy_inside_the_store_is_told_from_what_existed(http: aiohttp.ClientSession, api: ApiProcess) -> None:
    calls = Calls(http, api.url, api.token)
    data = b"x" * 300_000
    await calls.upload("first", data)
    assert (await calls.initiate("first", data))[1]["status"] == "exists"
    assert (await calls.initiate("second", data))[1]["status"] == "exists"
    async with http.get(f"{api.admin_url}/metrics") as answer:
        text = await answer.text()
    counted = dict(re.findall(r'putgate_api_initiates_total\{outcome="(\w+)"\} (\S+)', text))
    assert counted == {"put": "1.0", "exists": "1.0", "copied": "1.0"}
