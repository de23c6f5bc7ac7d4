"""`putgate dev` as somebody uses it: started for real, told to stop by Ctrl-C, started again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.seaweedfs import require_weed

pytestmark = pytest.mark.slow

PUTGATE = str(Path(sys.executable).with_name("putgate"))
DEADLINE = 60.0


class Dev:
    """One run of `putgate dev` in `home`, in a session of its own, with every line that it prints."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.lines: list[str] = []
        self._heard = threading.Condition()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PUTGATE_")}
        self.process = subprocess.Popen(
            [PUTGATE, "dev", *arguments],
            cwd=home,
            # A setting of the user's shell must not reach the programs that read settings written for them.
            env={**environment, "PUTGATE_API_LISTEN__PORT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._heard:
                    self.lines.append(line.rstrip("\n"))
                    self._heard.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what was printed so far or comes."""
        with self._heard:
            found = self._heard.wait_for(lambda: re.search(pattern, self.text), DEADLINE)
        assert found, f"{pattern!r} is not in:\n{self.text}"
        return found

    def ready(self) -> None:
        self.wait_for("Ctrl-C stops everything")

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """As the terminal does it: the signal goes to the whole foreground group."""
        os.killpg(self.process.pid, how)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def shell(self, command: str) -> str:
        """What a command says that is typed in the same folder."""
        exports = [line for line in self.lines if line.strip().startswith("export ")]
        return subprocess.run(
            ["sh", "-c", "\n".join([*exports, command])],
            cwd=self.home,
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        ).stdout

    def programs(self) -> dict[int, str]:
        """The processes that work on this home, by id, with their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue  # it has just ended
                if f"{self.home}/.putgate-dev/" in line:
                    found[int(entry.name)] = line
        return found

    def pid_of(self, name: str) -> int:
        (pid,) = [pid for pid, line in self.programs().items() if name in line]
        return pid


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    require_weed()
    runs: list[Dev] = []

    def begin(*arguments: str) -> Dev:
        runs.append(Dev(tmp_path, *arguments))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)
        run.ended()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_from_the_first_file_to_the_second_start(start: Callable[..., Dev], tmp_path: Path) -> None:
    dev = start()
    dev.ready()
    # As it says itself: copy a file in, list, fetch.
    suggested = [line.strip() for line in dev.lines if line.startswith("  ")]
    copy_in, _, list_files, fetch = suggested
    dev.shell(copy_in)
    dev.wait_for(r"uploaded  hello\.txt  \(6 B, put\)")
    assert "hello.txt" in dev.shell(list_files)
    if shutil.which("curl"):
        assert dev.shell(fetch) == "hello\n"
    large = os.urandom(20_000_000)
    (tmp_path / "large.part").write_bytes(large)
    (tmp_path / "inbox" / "sub dir").mkdir()
    (tmp_path / "large.part").rename(tmp_path / "inbox" / "sub dir" / "large é")
    dev.wait_for(r"uploaded  sub dir/large é  \(19\.1 MiB, complete\)")
    dev.shell(f"{PUTGATE} download 'sub dir/large é' back")
    assert (tmp_path / "back").read_bytes() == large
    url = dev.wait_for(r"runs at (http://127\.0\.0\.1:\d+)")[1]
    assert len(dev.programs()) == 3
    assert dev.end() == 0
    assert dev.programs() == {}

    again = start()
    again.ready()
    assert again.wait_for(r"runs at (http://127\.0\.0\.1:\d+)")[1] == url
    (tmp_path / "inbox" / "second").write_bytes(b"2")
    again.wait_for(r"uploaded  second  \(1 B, put\)")
    # No byte is sent again. (A file that was written just before it was read is looked at once more: `exists`.)
    assert not re.search(r"uploaded  (?!second ).*(put|complete)\)", again.text)
    (tmp_path / "back").unlink()
    again.shell(f"{PUTGATE} download 'sub dir/large é' back")
    assert (tmp_path / "back").read_bytes() == large
    assert again.end() == 0
    assert again.programs() == {}


@pytest.mark.parametrize("name", ["weed", "putgate-api", "putgate-daemon"])
def test_a_program_that_dies_ends_everything(start: Callable[..., Dev], name: str) -> None:
    dev = start()
    dev.ready()
    os.kill(dev.pid_of(name), signal.SIGKILL)
    assert dev.ended() == 1
    shown = {"weed": "store"}.get(name, name)
    assert f"{shown} has ended (signal SIGKILL). The end of {dev.home}/.putgate-dev/logs/{shown}.log:" in dev.text
    assert dev.programs() == {}


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: apt-get install util-linux")
def test_nothing_is_left_behind_by_a_killed_run(start: Callable[..., Dev]) -> None:
    dev = start()
    dev.ready()
    dev.process.kill()
    dev.ended()
    until(lambda: dev.programs() == {})
    again = start()
    again.ready()
    assert again.end(signal.SIGTERM) == 0


def test_ctrl_c_while_it_starts(start: Callable[..., Dev]) -> None:
    dev = start()
    until(lambda: bool(dev.programs()))
    assert dev.end() == 0
    assert dev.programs() == {}


def test_two_runs_never_share_a_store(start: Callable[..., Dev]) -> None:
    dev = start()
    dev.ready()
    other = start()
    assert other.ended() == 1
    assert "another `putgate dev` is running" in other.text
    assert len(dev.programs()) == 3


def test_the_folder_may_hold_everything(start: Callable[..., Dev], tmp_path: Path) -> None:
    dev = start(".")
    dev.ready()
    (tmp_path / "mine").write_bytes(b"1")
    dev.wait_for(r"uploaded  mine ")
    assert dev.shell(f"{PUTGATE} ls").split().count("mine") == 1
    assert ".putgate-dev" not in dev.shell(f"{PUTGATE} ls")
    assert ".putgate-dev" not in "\n".join(line for line in dev.lines if "uploaded" in line)
