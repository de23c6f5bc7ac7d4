import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_daemon.errors import RuleError
from putgate_daemon.rules import OwnFiles, Rules, below


@pytest.mark.parametrize(
    "name",
    [
        b"a.tmp",
        b"a.part",
        b"movie.mkv.crdownload",
        b".notes.txt.swp",
        b"notes.txt~",
        b".#notes",
        b"#notes#",
        b"~$report.docx",
        b".~lock.report.odt#",
        b".nfs000000000123456700000001",
        b".goutputstream-AB12CD",
        b".DS_Store",
        b"new\nline.tmp",
        # What a killed `putgate download` leaves.
        b".putgate-0123456789abcdef.part",
        b".putgate-0123456789abcdef.parts",
    ],
)
def test_temporary_names_are_left_out_at_any_depth(name: bytes) -> None:
    rules = Rules()
    assert not rules.wanted(name)
    assert not rules.wanted(b"deep/er/" + name)


@pytest.mark.parametrize(
    "name", [b"tmp", b"a.tmp.txt", b"part", b"spare.parts", b"swp.txt", b".hidden", b".config.backup", b"a#b#c"]
)
def test_ordinary_names_are_taken(name: bytes) -> None:
    assert Rules().wanted(name)


def test_a_directory_with_a_temporary_looking_name_is_taken() -> None:
    assert Rules().wanted(b"cache.tmp", directory=True)


def test_gitignore_semantics() -> None:
    rules = Rules(["*.log", "!keep.log", "/build/", "docs/**/draft.txt", "# a comment", "", "\\#odd", "sp ace"])
    assert not rules.wanted(b"a/b.log")
    assert rules.wanted(b"a/keep.log")
    assert not rules.wanted(b"build", directory=True)
    assert rules.wanted(b"build")  # the pattern names a directory
    assert rules.wanted(b"src/build", directory=True)
    assert not rules.wanted(b"docs/x/y/draft.txt")
    assert not rules.wanted(b"docs/draft.txt")
    assert not rules.wanted(b"#odd")
    assert not rules.wanted(b"sp ace")
    assert rules.wanted(b"# a comment")


def test_the_last_matching_rule_decides_and_beats_the_built_in_list() -> None:
    rules = Rules(["!*.tmp", "secret.tmp"])
    assert rules.wanted(b"a.tmp")
    assert not rules.wanted(b"secret.tmp")
    assert not rules.wanted(b"a.swp")


def test_nothing_below_an_unwanted_directory_is_taken_back() -> None:
    rules = Rules(["cache/", "!cache/keep"])
    assert not rules.wanted_throughout(b"a/cache/keep")
    assert rules.wanted_throughout(b"a/kept")
    assert not rules.wanted_throughout(b"cache", directory=True)


def test_names_that_are_not_utf8_are_matched_by_their_bytes() -> None:
    rules = Rules(["*.log"])
    assert not rules.wanted(b"bad\xff.log")
    assert rules.wanted(b"bad\xff.txt")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_gets_an_answer(name: bytes) -> None:
    assert Rules(["*.log", "a?b", "[x-z]*"]).wanted(name) in (True, False)
    assert Rules(["*"]).wanted(name) is False


@pytest.mark.parametrize("name", [b"\n", b"a\n", b"\na", b"a\nb.log"])
def test_a_line_feed_is_a_character_like_any_other(name: bytes) -> None:
    assert not Rules(["*"]).wanted(name)
    assert Rules(["*.log"]).wanted(name) is not name.endswith(b".log")


def test_a_bad_pattern_is_an_error() -> None:
    with pytest.raises(RuleError, match="rules"):
        Rules(["!"])


def test_the_daemons_own_files_are_left_out() -> None:
    own = OwnFiles(b"/data", b"/data/.state/j.db", [b"/data/token", b"/etc/daemon.yaml"])
    rules = Rules(["!*"], own)
    for name in (b"j.db", b"j.db-wal", b"j.db-shm", b"j.db.lock", b"j.db.corrupt-123", b"j.db.corrupt-123-wal"):
        assert not rules.wanted(b".state/" + name), name
    assert not rules.wanted(b"token")
    assert rules.wanted(b"j.db")
    assert rules.wanted(b".state/j.db2")
    assert rules.wanted(b"daemon.yaml")


def test_a_nested_folder_belongs_to_itself() -> None:
    rules = Rules((), None, [b"a/inner"])
    assert not rules.wanted_throughout(b"a/inner/file")
    assert rules.wanted_throughout(b"a/inner2/file")
    assert rules.wanted(b"a/inner")  # a file of that name is no folder


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        (b"/a", b"/a/b", b"b"),
        (b"/a", b"/ab", None),
        (b"/a", b"/a", None),
        (b"/", b"/x/y", b"x/y"),
        (b"/a", b"/", None),
    ],
)
def test_below(root: bytes, path: bytes, expected: bytes | None) -> None:
    assert below(root, path) == expected


def test_the_built_in_list_does_not_depend_on_the_locale() -> None:
    assert Rules().wanted(os.fsencode("größe.TMP"))
