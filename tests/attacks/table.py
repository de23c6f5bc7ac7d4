"""The table in docs/security.md: a row per attack, a column per store. Each run looks after its own column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"

Rows = dict[str, dict[str, str]]
"""Attack → store → what it came to."""


def read(text: str) -> Rows:
    """Raises `ValueError` where the page has no such table."""
    lines = _between(text).strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if len(cells) < 2:
        return {}
    stores = cells[0][1:]
    return {row[0]: dict(zip(stores, row[1:], strict=True)) for row in cells[2:]}


def with_column(rows: Rows, store: str, column: Mapping[str, str]) -> Rows:
    """The table with this run's column, and with the rows of this run."""
    return {attack: {**rows.get(attack, {}), store: outcome} for attack, outcome in column.items()}


def written(text: str, rows: Rows, stores: tuple[str, ...]) -> str:
    lines = [_line("attack", *stores), _line(*["---"] * (len(stores) + 1))]
    lines += [_line(attack, *(cells.get(store, "") for store in stores)) for attack, cells in rows.items()]
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return before + "\n".join([BEGIN, *lines, END]) + after


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _between(text: str) -> str:
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the page has no single {BEGIN} … {END}")
    return text.partition(BEGIN)[2].partition(END)[0]
