"""What the README says of speed is what was measured."""

from __future__ import annotations

import json
import re

from benchmarks.transfers.table import table

from tests.repository.tree import ROOT

RESULT = ROOT / "benchmarks" / "results" / "transfers.json"
SHOWN = re.compile(r"<!-- transfers: begin -->\n(.*?)\n<!-- transfers: end -->", re.DOTALL)


def test_the_table_is_the_one_of_the_result() -> None:
    shown = SHOWN.findall((ROOT / "README.md").read_text())
    assert shown == [table(json.loads(RESULT.read_text()))]
