"""What `putgate upload` says of each file as it goes, and of all of them at the end."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from putgate.cli import render
from putgate.cli.bar import Bar
from putgate.cli.exits import code_of_all, complain, explain, shown
from putgate.upload.job import Failed, Uploaded
from putgate_protocol.names import Name


@dataclass(slots=True, kw_only=True)
class Report:
    """`summary`: whether the end is told too."""

    bar: Bar
    as_json: bool
    summary: bool
    errors: list[Exception] = field(default_factory=list, init=False)
    _found_bytes: int = field(default=0, init=False)
    _uploaded: int = field(default=0, init=False)
    _uploaded_bytes: int = field(default=0, init=False)
    _existed: int = field(default=0, init=False)
    _skipped: int = field(default=0, init=False)
    _sent: dict[Name, int] = field(default_factory=dict, init=False)

    def found(self, size: int) -> None:
        self._found_bytes += size
        self.bar.total(self._found_bytes)

    def sent(self, name: Name, count: int) -> None:
        self._sent[name] = self._sent.get(name, 0) + count
        self.bar.advance(count)

    def outcome(self, outcome: Uploaded | Failed, path: bytes, size: int) -> None:
        # What was not sent, because it was there or failed, is done all the same.
        self.bar.advance(size - self._sent.pop(outcome.job.name, 0))
        if isinstance(outcome, Failed) and isinstance(outcome.error, OSError) and outcome.error.filename is not None:
            # A file below a folder is opened from there, a segment at a time: the error knows the last one alone.
            outcome.error.filename = path
        render.uploaded(outcome, as_json=self.as_json)
        match outcome:
            case Failed():
                self.errors.append(outcome.error)
            case Uploaded(how="exists"):
                self._existed += 1
            case Uploaded():
                self._uploaded += 1
                self._uploaded_bytes += outcome.file.size

    def skipped(self, path: bytes, why: str) -> None:
        self._skipped += 1
        if self.as_json:
            render.emit({**_path(path), "status": "skipped", "why": why})
        complain(f"skipped {shown(path)}: {why}")

    def unreadable(self, path: bytes, error: Exception) -> None:
        """Something below a folder that cannot become a file of the bucket."""
        self.errors.append(error)
        if self.as_json:
            render.emit({**_path(path), "status": "failed", "error": render.failure(error)})
        complain(explain(error) if isinstance(error, OSError) else f"{shown(path)}: {explain(error)}")

    def end(self) -> int:
        """The exit code."""
        if self.summary:
            self._sum_up()
        return code_of_all(self.errors)

    def _sum_up(self) -> None:
        if self.as_json:
            counts = {"uploaded": self._uploaded, "uploaded_bytes": self._uploaded_bytes, "existed": self._existed}
            render.emit({"status": "summary", **counts, "failed": len(self.errors), "skipped": self._skipped})
            return
        print(
            f"{self._uploaded} uploaded ({render.human(self._uploaded_bytes)}), {self._existed} stored already, "
            f"{len(self.errors)} failed, {self._skipped} skipped"
        )


def _path(path: bytes) -> dict[str, str]:
    """As names are in JSON: text, or base64 of what is not UTF-8."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path_b64": base64.b64encode(path).decode()}
