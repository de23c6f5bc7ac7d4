"""What `kubectl` shows of an UploadBucket, held against files that people have read.

The files are written anew by

    PUTGATE_WRITE_GOLDEN=1 python -m pytest -n 0 tests/e2e/test_kubernetes.py -k helm_install

and a change of them is looked at as a change of what every user reads.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
WRITE = "PUTGATE_WRITE_GOLDEN"

_AGE = r"(\d+[smhd])+( \(x\d+ over (\d+[smhd])+\))?"
_VARIES = {
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "UID",
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "TIME",
    r"(?<=Resource Version:  )\d+": "NUMBER",
    r"(?<=Version:  )\d+\.\d+\.\d+\S*": "VERSION",
    r"(?<=\d):\d{4,5}\b": ":PORT",
    r"\b([0-9a-f]{32}|[0-9a-f]{10})\b": "HASH",
    rf"  {_AGE}(?=  |$)": "  AGE",
}
"""What differs from run to run by its nature, and what stands for it."""


def compare(name: str, shown: str, namespace: str) -> None:
    """That `shown` is what the file `name` says, but for what varies; or write it, where the environment says so."""
    found, path = settled(shown, namespace), FOLDER / name
    if os.environ.get(WRITE):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text(), f"{path.name} reads otherwise; where that is meant, write it anew with {WRITE}=1"


def settled(shown: str, namespace: str) -> str:
    """Columns are as wide as what varies in them, so their widths go, too; and Events come in any order."""
    lines = [re.sub(r"(?<=\S) {2,}", "  ", line.rstrip()) for line in shown.strip().splitlines()]
    text = "\n".join(lines).replace(namespace, "NAMESPACE")
    for varies, stands in _VARIES.items():
        text = re.sub(varies, stands, text, flags=re.MULTILINE)
    return _sorted_events(text) + "\n"


def _sorted_events(text: str) -> str:
    head, ruler, events = text.partition("  ----  ------  ----  ----  -------\n")
    return head + ruler + "\n".join(sorted(events.splitlines()))
