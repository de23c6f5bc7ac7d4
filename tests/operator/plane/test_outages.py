"""The API server goes away, leaders die or sleep: one goes on, never two, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.operator.plane.operators import Home
from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.waiting import until


def test_the_api_server_restarts(home: Home, control_plane: ControlPlane) -> None:
    home.operator()
    home.bucket()
    home.until_ready()
    before = home.children()
    control_plane.restart_api_server()
    home.bucket(api={"replicas": 3})
    found = until(
        "the change is seen",
        lambda: (home.get("uploadbucket", "media")["status"]["api"].get("readyReplicas") == 3) or None,
        within=120,
    )
    assert found
    home.kubectl("delete", "service", "media-putgate-api")
    until("the service is back", lambda: home.get("service", "media-putgate-api"), within=60)
    home.bucket(api={"replicas": 2})
    home.until_ready()
    home.until_children(before, within=60)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped", "asleep"])
def test_another_leads_and_never_both(home: Home, how: str) -> None:
    first = home.operator()
    until("the first leads", lambda: first.metric("putgate_operator_leading") == 1)
    second = home.operator(account="second")
    home.bucket()
    home.until_ready()
    assert second.metric("putgate_operator_leading") == 0
    mark = home.plane.mark()
    lost = time.monotonic()
    match how:
        case "killed":
            first.kill()
        case "stopped":
            assert first.stop() == 0
        case "asleep":
            first.pause()
    keep_busy(home, lambda: second.metric("putgate_operator_leading") == 1)
    if how == "asleep":
        keep_busy(home, lambda: time.monotonic() - lost > 30)
        first.resume()
        asleep = time.monotonic()
        keep_busy(home, lambda: time.monotonic() - asleep > 5)
    home.kubectl("delete", "service", "media-putgate-api", "--ignore-not-found", "--wait=false")
    until("the service is back", lambda: home.get("service", "media-putgate-api"), within=60)
    writers = [event.user for event in home.writes_of_all(mark)]
    assert home.user_of("second") in writers
    begin = writers.index(home.user_of("second"))
    assert home.user not in writers[begin:]


def keep_busy(home: Home, enough: Callable[[], bool]) -> None:
    """Something to do for whoever leads, until it is enough."""
    deadline = time.monotonic() + 120
    while not enough():
        assert time.monotonic() < deadline
        home.kubectl("delete", "service", "media-putgate-api", "--ignore-not-found", "--wait=false")
