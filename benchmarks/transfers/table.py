"""`python -m benchmarks.transfers.table [FILE]`: a result as the Markdown table that the README shows.

Made from the file alone, so that what the README says is what was measured: a test compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOOLS = ("putgate", "s5cmd", "rclone", "aws")


def table(result: Mapping[str, Any]) -> str:
    """Seconds are medians. CPU seconds and store calls come in the order of the tools."""
    order = " / ".join(TOOLS)
    heads = ["step", *TOOLS, "putgate to the fastest peer", f"CPU seconds: {order}", f"store calls: {order}"]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    rows += [_row(step, told) for step, told in result["steps"].items()]
    return "\n".join([_about(result), "", *(f"| {' | '.join(cells)} |" for cells in rows)])


def _about(result: Mapping[str, Any]) -> str:
    sizes, machine = result["sizes"], result["machine"]
    return (
        f"`small`: {sizes['small']:,} files of 4 KiB; `tree`: {sizes['medium']:,} files of 1 MiB; `large`: one file of "
        f"{sizes['large'] * 8:,} MiB. Medians of {result['rounds']} rounds; "
        f"{machine['cpus']} cores ({machine['processor']})."
    )


def _row(step: str, told: Mapping[str, Any]) -> list[str]:
    seconds = [f"{told['median_seconds'][tool]:.2f} s" for tool in TOOLS]
    cpu = " / ".join(_cpu(tool, told["median_cpu_seconds"][tool]) for tool in TOOLS)
    calls = " / ".join(f"{sum(told['store'][tool]['calls'].values()):,}" for tool in TOOLS)
    return [step, *seconds, f"{told['putgate_to_fastest_peer']:.2f}", cpu, calls]


def _cpu(tool: str, seconds: Mapping[str, float]) -> str:
    """Putgate's API works for it too; the other tools have none."""
    own = f"{seconds['client']:.1f}"
    return f"{own} + {seconds['api']:.1f} (API)" if tool == "putgate" else own


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "results" / "transfers.json"
    print(table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
