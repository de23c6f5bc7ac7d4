"""What `putgate dev` tells people: text out of values, nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from putgate.cli.render import human
from putgate.dev.home import Home, Ports


def shown(line: str, now: str) -> str | None:
    """What is worth showing of a line of the daemon's log: uploads, and what went wrong. `now`: the time of day."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    if entry.get("event") == "uploaded":
        size = entry.get("size")
        size_text = human(size) if isinstance(size, int) else "?"
        return f"{now}  uploaded  {_said(entry, 'name')}  ({size_text}, {_said(entry, 'how')})"
    if entry.get("level") in ("warning", "error", "critical"):
        said = (_said(entry, key) for key in ("event", "name", "path", "detail", "why"))
        return "  ".join([now, str(entry["level"]), *filter(None, said)])
    return None


def _said(entry: dict[str, Any], key: str) -> str:
    """Text for a terminal, whatever is in the file's name."""
    return "".join(c if c.isprintable() else "�" for c in str(entry.get(key) or ""))


def welcome(home: Home, ports: Ports, folder: Path) -> str:
    """What to try next."""
    here = _from_here(home.path)
    token, first = quote(str(here / "token")), quote(str(folder / "hello.txt"))
    return f"""
Putgate runs at {ports.api_url}: what appears in {folder}/ is uploaded. Try, in another terminal:

  echo hello > {first}
  export PUTGATE_SERVER={ports.api_url} PUTGATE_TOKEN_FILE={token}
  {quote(_command())} ls
  curl -L -H "Authorization: Bearer $(cat {token})" {ports.api_url}/files/hello.txt

Data and logs are in {here}/. Ctrl-C stops everything; the next start goes on with the same data.
"""


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _command() -> str:
    """How to type this command in the shell that it was started from."""
    found, beside = shutil.which("putgate"), Path(sys.executable).with_name("putgate")
    return "putgate" if found and Path(found).samefile(beside) else str(_from_here(beside))
