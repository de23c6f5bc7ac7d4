from __future__ import annotations

from pathlib import Path

import pytest

from tests.operator.crd import written


@pytest.mark.parametrize(
    ("path", "text"),
    [(written.CHART_COPY, written.chart_copy()), (written.DOCUMENT, written.document())],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_follows_from_the_definition_is_up_to_date(path: Path, text: str) -> None:
    assert path.read_text() == text, "run python -m tests.operator.crd.written"
