"""What a client refuses before it calls anybody."""

from __future__ import annotations

import pytest

import putgate


@pytest.mark.parametrize("url", ["", "x", "ftp://x", "http://", "http://[::1", "http://h:99999"])
def test_a_url_that_cannot_be_called(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        putgate.Client(url)


@pytest.mark.parametrize("token", ["", "two\nlines", "a b", "tökén"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="one line") as refused:
        putgate.Client("http://localhost", token=token)
    assert not token or token not in str(refused.value)
