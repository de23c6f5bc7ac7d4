"""The API server goes away, leaders die or sleep: one goes on, never two, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.operator.plane.operators import Home, OperatorProcess
from tests.operator.plane.terms import BLOCKED, Loss, intrusions, requests, terms
from tests.operator.plane.test_objects import FULL
from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.waiting import until

ASLEEP = 30.0
"""Seconds: twice as long as a lease lasts, so that the sleeper's is long over."""


@pytest.mark.slow
def test_the_api_server_restarts(home: Home, control_plane: ControlPlane) -> None:
    home.operator()
    home.bucket()
    home.until_ready()
    before = home.children()
    # In the midst of the work, be it going there or back.
    home.bucket(**FULL)
    control_plane.restart_api_server()
    assert home.until_ready()["status"]["api"]["readyReplicas"] == 3
    home.kubectl("delete", "service", "media-putgate-api")
    until("the service is back", lambda: home.get("service", "media-putgate-api"), within=120)
    home.bucket()
    control_plane.restart_api_server()
    home.until_ready()
    home.until_children(before, within=120)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped", "asleep"])
def test_another_leads_and_never_both(home: Home, how: str) -> None:
    mark = home.plane.mark()
    first = home.operator()
    until("the first leads", lambda: first.metric("putgate_operator_leading") == 1)
    second = home.operator(account="second")
    home.bucket()
    home.until_ready()
    before = home.children()
    assert second.metric("putgate_operator_leading") == 0
    loss = Loss(home=home)
    match how:
        case "killed":
            first.kill()
        case "stopped":
            assert first.stop() == 0
        case "asleep":
            first.pause()
    loss.busy_until("the second leads", lambda: second.metric("putgate_operator_leading") == 1)
    loss.check(requests(home, mark), released=how == "stopped")
    if how == "asleep":
        loss.busy_until("it has slept long", lambda: loss.age > ASLEEP)
        first.resume()
        loss.busy_until("it has noticed", lambda: knows_that_it_is_lost(first))
    home.until_children(before, within=120)
    home.until_ready()
    asked = requests(home, mark)
    assert intrusions(asked) == []
    assert [term.account for term in terms(asked)] == ["operator", "second"]


def knows_that_it_is_lost(first: OperatorProcess) -> bool:
    """It has given up what was in work, or has been ended by its watchdog."""
    assert first.process is not None
    code = first.process.poll()
    assert code in (None, BLOCKED)
    return code == BLOCKED or "leadership is lost" in first.log.read_text()
