from pathlib import Path

import pytest

from putgate_daemon.errors import TokenError
from putgate_daemon.token_file import TokenFile


def test_it_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    token = TokenFile(path)
    assert token() == "first"
    fresh = tmp_path / "fresh"
    fresh.write_text("second")
    fresh.rename(path)
    assert token() == "second"


def test_in_the_middle_of_a_rotation_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    token = TokenFile(path)
    path.write_text("")
    assert token() == "first"
    path.unlink()
    assert token() == "first"
    path.write_text("later")
    assert token() == "later"


def test_it_never_shows_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret-value")
    assert "secret-value" not in repr(TokenFile(path))


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_a_token_that_is_not_there_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(TokenError, match="token file"):
        TokenFile(tmp_path / "token")
