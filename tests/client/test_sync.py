"""The blocking client: the same calls, from any thread, whatever loop runs where."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

import putgate
from tests.client.stack import MIB, Stack, a_stack, the_servers  # noqa: F401
from tests.servers.proxy_calls import kind

CALLS = ("upload", "upload_stream", "download", "url", "list", "pages", "stat", "delete")


def opened(stack: Stack, **options: Any) -> putgate.sync.Client:
    options.setdefault("give_up_after", timedelta(seconds=20))
    return putgate.sync.Client(stack.calls.url, token=stack.api.token, options=putgate.Options(**options))


@pytest.mark.parametrize("call", CALLS)
def test_each_call_has_the_arguments_and_words_of_the_asynchronous_one(call: str) -> None:
    here, there = getattr(putgate.sync.Client, call), getattr(putgate.Client, call)
    assert inspect.signature(here) == inspect.signature(there)
    assert here.__doc__ == there.__doc__ is not None


def test_no_call_is_missing() -> None:
    public = {name for name in vars(putgate.Client) if not name.startswith("_")}
    # The engine is asynchronous by its nature: it takes a stream of jobs.
    assert public - {"engine"} == set(CALLS)
    made = inspect.signature(putgate.sync.Client.__init__)
    assert made.parameters == inspect.signature(putgate.Client.__init__).parameters


def test_a_file_from_its_upload_to_its_removal(stack: Stack) -> None:
    path = stack.file(9 * MIB)
    name = stack.prefix + "a"
    with opened(stack) as client:
        assert client.upload(path, name).how == "complete"
        heard: list[int] = []
        client.download(name, stack.folder / "out", on_bytes=heard.append)
        assert sum(heard) == 9 * MIB
        assert (stack.folder / "out").read_bytes() == path.read_bytes()
        assert client.stat(name).size == 9 * MIB
        assert "X-Amz-Signature" in client.url(name, expires_in=timedelta(seconds=30)).url
        client.upload(b"b", stack.prefix + "b")
        assert [file.name for file in client.list(stack.prefix)] == [name, stack.prefix + "b"]
        assert [page.prefixes for page in client.pages(stack.prefix[:-1], delimiter="/")] == [[stack.prefix]]
        client.delete(name)
        with pytest.raises(putgate.NotFound):
            client.stat(name)
        with pytest.raises(putgate.PreconditionFailed):
            client.upload(b"other", stack.prefix + "b", if_absent=True)
        with pytest.raises(FileNotFoundError):
            client.upload(stack.folder / "absent", name)


def test_a_listing_is_fetched_as_far_as_it_is_read(stack: Stack) -> None:
    with opened(stack) as client:
        client.upload(b"x", stack.prefix + "x")
        stack.calls.reset()
        listing = client.list(stack.prefix)
        assert stack.calls.total == 0
        assert next(listing).name == stack.prefix + "x"
        assert stack.calls.total == 1
        listing.close()


async def test_it_works_where_a_loop_runs_already(stack: Stack) -> None:
    with opened(stack) as client:
        client.upload(b"content", stack.prefix + "x")
        assert client.stat(stack.prefix + "x").size == 7
        # And from threads of that loop, while it goes on.
        stats = await asyncio.gather(*(asyncio.to_thread(client.stat, stack.prefix + "x") for _ in range(5)))
    assert [each.size for each in stats] == [7] * 5


def test_several_threads_work_at_once(stack: Stack) -> None:
    together = threading.Barrier(4, timeout=60)
    # Breaks unless four calls are under way at one time.
    stack.calls.on(kind("HEAD files"), lambda call: together.wait())
    with opened(stack) as client, ThreadPoolExecutor(4) as threads:
        names = [f"{stack.prefix}{number}" for number in range(4)]
        list(threads.map(lambda name: client.upload(name.encode(), name), names))
        assert [file.size for file in threads.map(client.stat, names)] == [len(name) for name in names]


def test_a_callback_that_calls_is_an_error_not_a_standstill(stack: Stack) -> None:
    with opened(stack) as client, pytest.raises(RuntimeError, match="wait for itself"):
        client.upload(b"x", stack.prefix + "x", on_bytes=lambda name, count: client.delete(name))


@pytest.mark.parametrize(
    "call",
    [lambda client: client.stat("x"), lambda client: client.upload(b"x", "x"), lambda client: next(client.list())],
)
def test_outside_of_with_it_says_so(stack: Stack, call: Callable[[putgate.sync.Client], object]) -> None:
    client = opened(stack)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside `with`"):
            call(client)
        with client:
            assert list(client.list(stack.prefix)) == []


def test_what_is_wrong_is_said_before_anything_begins() -> None:
    with pytest.raises(ValueError, match="URL"):
        putgate.sync.Client("ftp://x")


def test_a_call_in_another_thread_ends_with_the_client(stack: Stack) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(call: object) -> None:
        entered.set()
        leave.wait(60)

    stack.calls.on(kind("HEAD files"), hold)
    with ThreadPoolExecutor(1) as threads:
        with opened(stack, give_up_after=timedelta(0)) as client:
            waiting = threads.submit(client.stat, stack.prefix + "x")
            assert entered.wait(60)
        with pytest.raises((RuntimeError, putgate.Unreachable)):
            waiting.result(timeout=60)
        leave.set()


def test_no_thread_stays(stack: Stack) -> None:
    before = set(threading.enumerate())
    with opened(stack) as client:
        client.upload(b"x", stack.prefix + "x")
        assert "putgate-loop" in {thread.name for thread in threading.enumerate()}
    mine = {thread for thread in threading.enumerate() if thread.name.startswith("putgate")} - before
    for thread in mine:
        thread.join(60)
        assert not thread.is_alive()


def interrupted(script: str, stack: Stack, came: threading.Event, held: threading.Event) -> tuple[str, str, int]:
    """What a script says that gets a Ctrl-C once `came` is set, on both its outputs, and its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, stack.calls.url, stack.api.token, stack.prefix + "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert came.wait(60)
        process.send_signal(2)
        return *process.communicate(timeout=60), process.returncode
    finally:
        held.set()
        process.kill()
        process.wait()


@pytest.fixture
def came() -> threading.Event:
    """Somebody waits."""
    return threading.Event()


@pytest.fixture
def held() -> threading.Event:
    """They may go on."""
    return threading.Event()


@pytest.fixture
def hold(came: threading.Event, held: threading.Event) -> Callable[[object], None]:
    def wait(call: object) -> None:
        came.set()
        held.wait(60)

    return wait


def test_ctrl_c_in_a_stream_gives_its_upload_up(
    stack: Stack, came: threading.Event, held: threading.Event, hold: Callable[[object], None]
) -> None:
    stack.store.on(kind("UploadPart"), hold)
    script = (
        "import io, os, putgate, sys\n"
        "try:\n"
        "    with putgate.sync.Client(sys.argv[1], token=sys.argv[2]) as client:\n"
        "        client.upload_stream(io.BytesIO(os.urandom(20_000_000)), sys.argv[3])\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert interrupted(script, stack, came, held) == ("interrupted\n", "", 0)
    assert stack.calls.counts["abort_multipart_upload"] == 1


def test_ctrl_c_ends_a_call_at_once(
    stack: Stack, came: threading.Event, held: threading.Event, hold: Callable[[object], None]
) -> None:
    """A script that waits for an answer which does not come."""
    stack.calls.on(kind("HEAD files"), hold)
    script = (
        "import putgate, sys\n"
        "with putgate.sync.Client(sys.argv[1], token=sys.argv[2]) as client:\n"
        "    try:\n"
        "        client.stat('x')\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    assert interrupted(script, stack, came, held) == ("interrupted\n", "", 0)
