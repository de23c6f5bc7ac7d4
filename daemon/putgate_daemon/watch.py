"""Events → hints: paths that may have changed. Nothing is decided here, and nothing relies on a hint to come.

What the library reports is known to be incomplete (overflowing queues, directories filled before they are watched,
names that are not UTF-8 end it), so every hint is looked at, and scans find what no hint told of. It also follows
links to directories and cannot be told not to; what lies behind one ends here, before it costs a look.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import watchfiles

from putgate_daemon.rules import below

GROUP_MS = 400
"""Events are grouped for at most this long; longer delays every upload, shorter looks at busy files more often."""

POLL_MS = 200
"""How often the thread looks whether it should stop, and says that it lives."""


class WatchFailed(Exception):
    """Watching one folder ended; scans go on. The message says why."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A path relative to its folder, empty for the folder itself. `made`: it appeared, and may be a whole tree."""

    path: bytes
    made: bool


async def watch(root: bytes, *, armed: Callable[[], None], hints: Callable[[list[Hint]], None]) -> None:
    """Watch the tree at `root` until cancelled. Calls `armed` once changes are seen, then `hints`, both in the loop.

    Raises `WatchFailed`. The library is built and asked in a thread of its own, which has ended on return.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def pump() -> None:
        first = True
        for changes in watchfiles.watch(
            os.fsdecode(root),
            watch_filter=None,
            debounce=GROUP_MS,
            stop_event=stop,
            rust_timeout=POLL_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=False,
            ignore_permission_denied=False,
        ):
            if first:
                first = False
                loop.call_soon_threadsafe(armed)
            if changes and (told := _hints(root, changes)):
                loop.call_soon_threadsafe(hints, told)

    with ThreadPoolExecutor(1, thread_name_prefix="watch") as thread:
        try:
            await loop.run_in_executor(thread, pump)
        except (OSError, RuntimeError, ValueError) as error:
            raise WatchFailed(str(error)) from error
        finally:
            stop.set()
    raise WatchFailed("the watcher ended by itself")


def _hints(root: bytes, changes: set[tuple[watchfiles.Change, str]]) -> list[Hint]:
    """Several events of one path become one hint. Where a link leads to a directory of the folder, the library may
    tell its changes under the link's name alone: they are hints of the directory. What lies outside is left out.
    """
    real = {b"": os.path.realpath(root).rstrip(b"/")}
    made: dict[bytes, bool] = {}
    for change, text in changes:
        full = os.fsencode(text)
        path = b"" if full == root else below(root, full)
        if path:
            directory, _, name = path.rpartition(b"/")
            path = below(real[b""], _resolved(directory, real) + b"/" + name)
        if path is not None:
            made[path] = made.get(path, False) or change is watchfiles.Change.added
    return [Hint(path, was_made) for path, was_made in made.items()]


def _resolved(directory: bytes, real: dict[bytes, bytes]) -> bytes:
    """The absolute path, without links, of a directory that is given relative to the folder. `real` remembers, and
    holds the folder's own (as b""): one lstat for each directory, where `realpath` alone takes one for each step.
    """
    if directory in real:
        return real[directory]
    path, at = b"", real[b""]
    for name in directory.split(b"/"):
        path = path + b"/" + name if path else name
        if path not in real:
            at += b"/" + name
            real[path] = os.path.realpath(at).rstrip(b"/") if os.path.islink(at) else at  # noqa: PTH114
        at = real[path]
    return at
