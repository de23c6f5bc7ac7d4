"""The client for scripts: every call waits for its end.

with putgate.sync.Client("https://files.example.org", token=token) as client:
    client.upload("report.pdf", "2026/report.pdf")

The same calls as `putgate.Client` has, with the same arguments, answers and errors: each is made of the asynchronous
one, in an event loop in a thread of its own, so that it also works where a loop runs already, and from several threads
at once. Nothing of a call is said or decided here a second time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from putgate.client import Client as AsyncClient
from putgate.options import Options
from putgate.wire import Token
from putgate_protocol.messages.base import File

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Loop:
    """An event loop in a thread, from its making to `close`."""

    def __init__(self) -> None:
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(target=_serve, args=(started,), name="putgate-loop", daemon=True)
        self._thread.start()
        self._loop = started.result()
        self._beginning = threading.Lock()
        self._closed = False

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        """Wait for `work`; an exception meanwhile, such as Ctrl-C, cancels it and waits for its end."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a callback of a call cannot make another: it would wait for itself")
        ended = threading.Event()

        async def whole() -> Result:
            try:
                return await work
            finally:
                ended.set()

        # What is begun after the loop was told to stop would never end.
        with self._beginning:
            if self._closed:
                work.close()
                raise RuntimeError("the client was closed")
            future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("the client was closed during this call") from None
        except BaseException:
            future.cancel()
            # It may have something to give up, for which it needs the client that its caller is about to close.
            ended.wait()
            raise

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        with self._beginning:
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _serve(started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        started.set_result(loop)
        loop.run_forever()


def _waiting(
    call: Callable[Concatenate[AsyncClient, Arguments], Awaitable[Result]],
) -> Callable[Concatenate[Client, Arguments], Result]:
    """A call that waits for its end."""

    @functools.wraps(call)
    def wait(self: Client, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        async def work() -> Result:
            return await call(self.asynchronous, *args, **kwargs)

        return self.run(work())

    return wait


def _iterating(
    call: Callable[Concatenate[AsyncClient, Arguments], AsyncIterator[Result]],
) -> Callable[Concatenate[Client, Arguments], Iterator[Result]]:
    """A call whose answers come one by one, each fetched when it is asked for."""

    @functools.wraps(call)
    def iterate(self: Client, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Iterator[Result]:
        answers = call(self.asynchronous, *args, **kwargs)

        async def following() -> tuple[Result, ...]:
            try:
                return (await anext(answers),)
            except StopAsyncIteration:
                return ()

        while found := self.run(following()):
            yield from found

    return iterate


class Client:
    """As `putgate.Client`, for `with` instead of `async with`. May be used by several threads at once.

    Callbacks (`on_bytes`) are called in the client's own thread and must not call the client.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        options: Options | None = None,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.asynchronous = AsyncClient(url, token=token, options=options, ca_file=ca_file)
        self._loop: Loop | None = None

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("this client is open already")
        self._loop = Loop()
        try:
            self.run(self.asynchronous.__aenter__())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.run(self.asynchronous.__aexit__(kind, error, traceback))
        finally:
            self._close()

    upload = _waiting(AsyncClient.upload)
    upload_stream = _waiting(AsyncClient.upload_stream)
    download = _waiting(AsyncClient.download)
    url = _waiting(AsyncClient.url)
    pages = _iterating(AsyncClient.pages)
    stat = _waiting(AsyncClient.stat)
    delete = _waiting(AsyncClient.delete)

    @functools.wraps(AsyncClient.list)
    def list(self, prefix: str | bytes = "") -> Iterator[File]:
        # By pages: a hop between threads for each file would cost more than the file's own line.
        for page in self.pages(prefix):
            yield from page.files

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        """Run work of one's own with `asynchronous`, in the client's loop, and wait for its end."""
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError("use the client inside `with`")
        return loop.run(work)

    def _close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()
