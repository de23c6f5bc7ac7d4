"""A real HTTP proxy in front of a store or of the signing API: it counts, and it breaks things on demand.

It runs in a thread of its own with a loop of its own, so that blocking tests, async tests and child processes use it
alike. The request's target and its `Host` header are forwarded byte for byte: a URL that was signed for the proxy's
address stays valid at the upstream. Bodies are streamed, so a file of any size passes in bounded memory.
It never retries, caches or repairs: what goes wrong behind it goes wrong in front of it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import urlsplit

import pytest
import uvloop

from tests.servers.proxy_calls import Call, Classify, Head, Predicate, s3_kind
from tests.servers.proxy_faults import Fault
from tests.servers.proxy_link import Link
from tests.servers.seaweedfs import SeaweedFS

RECORDS_KEPT = 200_000
"""Calls remembered; the counters go on beyond."""

When = Literal["before", "after"]
Callback = Callable[[Call], object]


@dataclass(slots=True, eq=False)
class Rule:
    """A fault and the calls that it befalls. `hits`: how often it has struck."""

    predicate: Predicate
    fault: Fault
    times: int | None
    hits: int = 0


@dataclass(slots=True, eq=False)
class Hook:
    """A callback and the calls at which it runs."""

    predicate: Predicate
    callback: Callback
    when: When
    times: int | None
    hits: int = 0


class StoreProxy:
    """`with StoreProxy("http://127.0.0.1:8333") as proxy:` and give `proxy.url` to the system under test.

    With `bytes_per_second` all bodies of requests together pass as on one slow line.
    """

    def __init__(
        self, upstream: str, *, port: int = 0, classify: Classify = s3_kind, bytes_per_second: float | None = None
    ) -> None:
        parts = urlsplit(upstream)
        if parts.hostname is None or parts.port is None:
            raise ValueError("an upstream is http://host:port")
        self.upstream = (parts.hostname, parts.port)
        self.port = port
        self.errors: list[BaseException] = []
        self._classify = classify
        self._changed = threading.Condition()
        self._rules: list[Rule] = []
        self._hooks: list[Hook] = []
        self._links: dict[asyncio.Task[None], Link] = {}
        self._bytes_per_second = bytes_per_second
        self._line_free_at = 0.0
        self._down = False
        self._broken = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._number = 0
        self._clear()

    def _clear(self) -> None:
        self._counts: Counter[str] = Counter()
        self._requests: deque[Call] = deque(maxlen=RECORDS_KEPT)
        self._put_bytes = 0
        self._control_bytes = 0

    # What was seen

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counter[str]:
        """Requests by kind since the last `reset`."""
        with self._changed:
            return Counter(self._counts)

    @property
    def total(self) -> int:
        """All requests since the last `reset`."""
        with self._changed:
            return self._counts.total()

    @property
    def requests(self) -> list[Call]:
        """The calls since the last `reset`, in their order of arrival; live objects."""
        with self._changed:
            return list(self._requests)

    @property
    def put_body_bytes(self) -> int:
        """Body bytes of presigned PUTs: file content that clients sent, as far as it came."""
        with self._changed:
            return self._put_bytes

    @property
    def control_body_bytes(self) -> int:
        """Body bytes of all other requests."""
        with self._changed:
            return self._control_bytes

    @property
    def broken(self) -> int:
        """Connections that were broken at once, because it was down."""
        return self._broken

    def of_kind(self, *kinds: str) -> list[Call]:
        return [call for call in self.requests if call.kind in kinds]

    def reset(self) -> None:
        """Forget the counts and records; rules and hooks stay."""
        with self._changed:
            self._clear()

    def wait_until(self, condition: Callable[[StoreProxy], bool], timeout: float = 120) -> None:
        """Wait until `condition` holds; it is asked again at each call and each piece of a body.

        Raises `TimeoutError` with what was counted.
        """
        deadline = time.monotonic() + timeout
        while not condition(self):
            with self._changed:
                if not self._changed.wait(max(0.0, min(0.1, deadline - time.monotonic()))) and (
                    time.monotonic() >= deadline
                ):
                    raise TimeoutError(f"the proxy saw {dict(self._counts)} and no more")

    def wait_idle(self, timeout: float = 120) -> None:
        """Wait until no call is under way: what a killed client has left in its connections has passed, and counts."""
        self.wait_until(lambda proxy: all(call.done for call in proxy.requests), timeout)

    # What goes wrong

    def rule(self, predicate: Predicate, fault: Fault, times: int | None = None) -> Rule:
        """Let `fault` befall the calls that `predicate` accepts, `times` times at most; the first fitting rule wins."""
        rule = Rule(predicate, fault, times)
        with self._changed:
            self._rules.append(rule)
        return rule

    def on(self, predicate: Predicate, callback: Callback, *, when: When = "before", times: int | None = None) -> Hook:
        """Run `callback` in a thread, before a call is forwarded or after it was answered and before the client learns
        of it; the call waits meanwhile. What it raises is raised again by `stop`.
        """
        hook = Hook(predicate, callback, when, times)
        with self._changed:
            self._hooks.append(hook)
        return hook

    def heal(self) -> None:
        """Drop all rules and hooks, and be up."""
        with self._changed:
            self._rules.clear()
            self._hooks.clear()
        self.set_down(False)

    def set_down(self, down: bool) -> None:
        """Down: every connection is broken, and every new one at once."""
        if self._loop is None:
            raise RuntimeError("the proxy is not running")
        asyncio.run_coroutine_threadsafe(self._set_down(down), self._loop).result(10)

    async def _set_down(self, down: bool) -> None:
        self._down = down
        if down:
            self._break_all()

    def _break_all(self) -> None:
        for link in self._links.values():
            link.cut()

    # What the links use, in the loop's thread

    def begin(self, head: Head) -> Call:
        with self._changed:
            self._number += 1
            call = Call.of(self._number, head, self._classify)
            self._counts[call.kind] += 1
            self._requests.append(call)
            self._changed.notify_all()
        return call

    def received(self, call: Call, size: int) -> None:
        with self._changed:
            call.body_bytes += size
            if call.presigned and call.method == "PUT":
                self._put_bytes += size
            else:
                self._control_bytes += size
            self._changed.notify_all()

    async def pace(self, size: int) -> None:
        """Wait until so many bytes have passed the line."""
        if self._bytes_per_second is not None:
            now = time.monotonic()
            self._line_free_at = max(now, self._line_free_at) + size / self._bytes_per_second
            await asyncio.sleep(self._line_free_at - now)

    @property
    def buffer(self) -> int:
        """Bytes read from a connection at once, and kept. A slow line must not be hidden behind a large one."""
        return Link.BUFFER if self._bytes_per_second is None else 4096

    def end(self, call: Call) -> None:
        with self._changed:
            call.done = True
            self._changed.notify_all()

    def fault_for(self, call: Call) -> Fault | None:
        with self._changed:
            for rule in self._rules:
                if (rule.times is None or rule.hits < rule.times) and rule.predicate(call):
                    rule.hits += 1
                    call.fault = type(rule.fault).__name__
                    return rule.fault
        return None

    async def run_hooks(self, call: Call, when: When) -> None:
        if not self._hooks:
            return
        with self._changed:
            due = [hook for hook in self._hooks if self._is_due(hook, call, when)]
        for hook in due:
            await asyncio.to_thread(hook.callback, call)

    @staticmethod
    def _is_due(hook: Hook, call: Call, when: When) -> bool:
        if hook.when != when or (hook.times is not None and hook.hits >= hook.times) or not hook.predicate(call):
            return False
        hook.hits += 1
        return True

    # Its life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(up,), name="store-proxy", daemon=True)
        self._thread.start()
        if not up.wait(10) or self._loop is None:
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        """Break all connections and end the thread. Raises what a hook raised, or what broke in the proxy itself."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError("the proxy did not stop")
        self._thread = None
        if self.errors:
            raise ExceptionGroup("in the proxy or its hooks", [e for e in self.errors if isinstance(e, Exception)])

    def _run(self, up: threading.Event) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(up))

    async def _serve(self, up: threading.Event) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=max(self.buffer, 16 * 1024), backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        if self._bytes_per_second is not None:
            # What is accepted has as little.
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        self._loop = asyncio.get_running_loop()
        up.set()
        await self._stopping.wait()
        server.close()
        self._break_all()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            self._broken += 1
            writer.transport.abort()
            return
        link = Link(self, reader, writer)
        task = asyncio.get_running_loop().create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task)
        if not task.cancelled() and (error := task.exception()):
            self.errors.append(error)


@contextmanager
def running(upstream: str, *, classify: Classify = s3_kind) -> Iterator[StoreProxy]:
    """A proxy for the length of a block."""
    with StoreProxy(upstream, classify=classify) as proxy:
        yield proxy


@pytest.fixture
def store_proxy(seaweedfs: SeaweedFS) -> Iterator[StoreProxy]:
    """A fresh proxy in front of the shared SeaweedFS: sign for, and dial, `store_proxy.url`."""
    with StoreProxy(seaweedfs.endpoint) as proxy:
        yield proxy
