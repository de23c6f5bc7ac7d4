"""Pods are asked in the background, believed in nothing beyond a report's bounds, and forgotten when they go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from putgate_operator import pod_reports
from putgate_operator.observed import Unreachable
from putgate_operator.pod_reports import Asked, PodReports
from putgate_operator.seen import Place
from putgate_protocol.report import MAX_REPORT_BYTES, Report

PLACE: Place = ("ns", "media")

REPORT: dict[str, Any] = {
    "version": "0.1.0",
    "pod": {"name": "p", "uid": "u1"},
    "uploadbucket_uid": "b",
    "settings_hash": "0123456789",
    "rules_hash": None,
    "upload_keys": ["k"],
    "state": "Ready",
    "conditions": [],
    "integrity": None,
    "capabilities": {},
    "limits": {},
    "bucket": None,
}


class Pod:
    """A pod's admin port on loopback; `answer` says what it does."""

    def __init__(self) -> None:
        self.report = dict(REPORT)
        self.asked = 0
        self.answer: Callable[[], Awaitable[web.StreamResponse]] = self._report

    async def _report(self) -> web.StreamResponse:
        return web.json_response(self.report)

    async def handle(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        return await self.answer()


@pytest.fixture
async def pod(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    pod = Pod()
    app = web.Application()
    app.router.add_get("/report", pod.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(pod_reports, "ADMIN_PORT", runner.addresses[0][1])
    yield pod
    await runner.cleanup()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[PodReports, list[Place]]]:
    told: list[Place] = []
    async with aiohttp.ClientSession(trust_env=False) as http:
        reports = PodReports(http, told.append)
        task = asyncio.create_task(reports.run())
        yield reports, told
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def asked(*, eager: bool = True, ip: str = "127.0.0.1", uid: str = "u1") -> Asked:
    return Asked(uid=uid, ip=ip, eager=eager)


async def test_a_report_is_told_when_it_changes_and_only_then(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_reports, "EAGER", 0.01)
    monkeypatch.setattr(pod_reports, "LEAST_EAGER", 0.01)
    async with running() as (reports, told):
        assert reports.of(PLACE) == {}
        reports.want(PLACE, [asked()])
        await until(lambda: pod.asked >= 3)
        assert told == [PLACE]
        assert reports.of(PLACE) == {"u1": Report.model_validate(REPORT)}
        pod.report["state"] = "Degraded"
        await until(lambda: len(told) == 2)
        reports.want(PLACE, [])
        assert reports.of(PLACE) == {}


async def test_a_calm_pod_is_asked_once_and_at_once_when_it_is_of_interest_again(pod: Pod) -> None:
    async with running() as (reports, told):
        reports.want(PLACE, [asked(eager=False)])
        await until(lambda: told == [PLACE])
        reports.want(PLACE, [asked(eager=False)])
        assert pod.asked == 1
        reports.want(PLACE, [asked(eager=True)])
        await until(lambda: pod.asked == 2)


async def test_a_calm_pod_that_gives_no_report_is_asked_again_soon(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_reports, "EAGER", 0.01)
    first = True

    async def once_ill() -> web.StreamResponse:
        nonlocal first
        if first:
            first = False
            return web.Response(status=503)
        return web.json_response(REPORT)

    pod.answer = once_ill
    async with running() as (reports, _):
        reports.want(PLACE, [asked(eager=False)])
        await until(lambda: isinstance(reports.of(PLACE).get("u1"), Report))


def has_asked(pod: Pod, times: int) -> bool:
    return pod.asked == times


async def test_who_leads_again_asks_everybody_again(pod: Pod) -> None:
    async with aiohttp.ClientSession(trust_env=False) as http:
        reports = PodReports(http, lambda _: None)
        hold = asyncio.Event()

        async def held() -> web.StreamResponse:
            await hold.wait()
            return web.json_response(REPORT)

        pod.answer = held
        reports.want(PLACE, [asked(eager=False)])
        for times in (1, 2):
            task = asyncio.create_task(reports.run())
            await until(partial(has_asked, pod, times))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        hold.set()


async def _large() -> web.StreamResponse:
    return web.Response(body=b" " * (MAX_REPORT_BYTES + 1))


async def _redirect() -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})


async def _not_json() -> web.StreamResponse:
    return web.Response(body=b"\xff<html>")


async def _unknown_field() -> web.StreamResponse:
    return web.Response(body=json.dumps({**REPORT, "surprise": 1}).encode())


async def _absurd_limit() -> web.StreamResponse:
    return web.Response(body=json.dumps({**REPORT, "limits": {"part_size": 2**53}}).encode())


async def _refused() -> web.StreamResponse:
    return web.Response(status=500)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_large, "too large"),
        (_redirect, "HTTP 302"),
        (_not_json, "cannot be read"),
        (_unknown_field, "cannot be read"),
        (_absurd_limit, "cannot be read"),
        (_refused, "HTTP 500"),
    ],
)
async def test_what_is_no_report_is_none(
    pod: Pod, answer: Callable[[], Awaitable[web.StreamResponse]], why: str
) -> None:
    pod.answer = answer
    async with running() as (reports, told):
        reports.want(PLACE, [asked()])
        await until(lambda: told == [PLACE])
        found = reports.of(PLACE)["u1"]
    assert isinstance(found, Unreachable)
    assert why in found.why


async def test_a_silent_pod_delays_no_other(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_reports, "TIMEOUT", 0.5)
    hold = asyncio.Event()
    first = True

    async def once_silent() -> web.StreamResponse:
        nonlocal first
        if first:
            first = False
            await hold.wait()
        return web.json_response(REPORT)

    pod.answer = once_silent
    async with running() as (reports, told):
        reports.want(PLACE, [asked()])
        await until(lambda: pod.asked == 1)
        reports.want(("ns", "other"), [asked(uid="u2")])
        await until(lambda: ("ns", "other") in told)
        await until(lambda: isinstance(reports.of(PLACE).get("u1"), Unreachable))
        hold.set()


async def test_a_pod_where_nobody_listens() -> None:
    async with running() as (reports, told):
        reports.want(PLACE, [asked(ip="::1")])
        await until(lambda: told == [PLACE])
        found = reports.of(PLACE)["u1"]
    assert isinstance(found, Unreachable)
    assert "cannot be reached" in found.why
