"""What the store says, read as botocore reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from putgate_storage.s3.headers import parse_time

times = st.integers(0, 253_402_300_799_999).map(lambda past: datetime.fromtimestamp(past / 1000, UTC))


@given(
    time=times,
    written=st.sampled_from(
        [
            lambda time: f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z",
            lambda time: f"{time:%Y-%m-%dT%H:%M:%S}Z",
            lambda time: f"{time:%Y-%m-%dT%H:%M:%S.%f}789Z",
            datetime.isoformat,
            lambda time: format_datetime(time, usegmt=True),
            lambda time: str(int(time.timestamp())),
        ]
    ),
)
def test_times_equal_botocores(time: datetime, written: object) -> None:
    assert callable(written)
    text = written(time)
    assert parse_time(text) == parse_timestamp(text)


@pytest.mark.parametrize("text", ["", "Z", "neverZ", "2026-13-01T00:00:00Z", "2026-11-24T25:00:00Z"])
def test_what_is_no_time_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="imestamp"):
        parse_time(text)
