"""What a browser is told to do with a file: safe whatever the name, the type and the wish are."""

from __future__ import annotations

import email.message
import re
from typing import get_args
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from putgate_api.disposition import AS_IT_IS, MAX_BYTES, Policy, Wish, disposition, file_name, is_inert
from putgate_protocol.names import Name

NAME = Name(b"folder/report.pdf")
POLICIES: tuple[Policy, ...] = get_args(Policy)


def read(header: str) -> tuple[str, str | None]:
    """As a browser reads it: the kind and the file name, of whose two forms the extended one counts."""
    message = email.message.Message()
    plain, _, extended = header.partition("; filename*=")
    message["Content-Disposition"] = plain
    filename = unquote(extended.removeprefix("UTF-8''"), errors="strict") if extended else message.get_filename()
    return message.get_content_disposition() or "", filename


@pytest.mark.parametrize(
    ("policy", "content_type", "inline", "kind"),
    [
        ("AttachActiveContent", "image/png", None, "inline"),
        ("AttachActiveContent", "image/png", True, "inline"),
        ("AttachActiveContent", "image/png", False, "attachment"),
        ("AttachActiveContent", "text/html", None, "attachment"),
        ("AttachActiveContent", "text/html", True, "attachment"),
        ("AttachActiveContent", "image/svg+xml", True, "attachment"),
        ("Attach", "image/png", None, "attachment"),
        ("Attach", "image/png", True, "attachment"),
        ("Inline", "text/html", None, "inline"),
        ("Inline", "text/html", False, "attachment"),
    ],
)
def test_wishes_only_make_it_stricter(policy: Policy, content_type: str, inline: bool | None, kind: str) -> None:
    assert read(disposition(policy, content_type, NAME, Wish(inline=inline))) == (kind, "report.pdf")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "TEXT/Plain", " text/plain\t", "text/plain; charset=utf-8", 'text/plain;charset="x"']
)
def test_inert_types_are_known_however_they_are_written(content_type: str) -> None:
    assert is_inert(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/html",
        "image/png,text/html",
        "image/png;,text/html",
        "image/png; a=b,text/html",
        'image/png; a=",text/html"',
        "image/png\n",
        "image/png\r\nX: y",
        "image/png;",
        "ımage/png",
    ],
)
def test_what_a_browser_may_take_for_another_type_is_not_inert(content_type: str) -> None:
    assert not is_inert(content_type)


@pytest.mark.parametrize(
    ("asked", "header"),
    [
        ("report.pdf", 'filename="report.pdf"'),
        ("two words.txt", 'filename="two words.txt"'),
        ("100%.txt", "filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("Übung.txt", "filename=\"_bung.txt\"; filename*=UTF-8''%C3%9Cbung.txt"),
        ('a"b;c', 'filename="a_b;c"'),
        ("a\r\nSet-Cookie: x=y", 'filename="a__Set-Cookie_ x=y"'),
        ("../../etc/passwd", 'filename=".._.._etc_passwd"'),
        ("C:\\windows\\x", 'filename="C__windows_x"'),
        ("exe.\u202egpj", 'filename="exe._gpj"'),
        ("line\u2028end", 'filename="line_end"'),
        ("..", 'filename="download"'),
        ("///", 'filename="download"'),
        (" \t ", 'filename="download"'),
        ("a ", 'filename="a"'),
    ],
)
def test_file_names(asked: str, header: str) -> None:
    assert disposition("Attach", "text/plain", NAME, Wish(filename=asked)) == f"attachment; {header}"


@pytest.mark.parametrize(
    ("raw", "filename"),
    [(b"a/b.txt", "b.txt"), ("a/日本.txt".encode(), "日本.txt"), (b"a\nb", "a_b"), (b"x\xff.bin", "x\ufffd.bin")],
)
def test_without_a_wish_the_names_last_segment_stands(raw: bytes, filename: str) -> None:
    assert read(disposition("Attach", "text/plain", Name(raw), AS_IT_IS)) == ("attachment", filename)


def test_a_long_name_keeps_its_ending() -> None:
    shortened = file_name("日" * 200 + ".tar.gz")
    assert len(shortened.encode()) <= MAX_BYTES
    assert shortened.endswith("日.gz")
    assert len(file_name("x" * 300).encode()) == MAX_BYTES
    assert len(file_name("x." + "y" * 300).encode()) == MAX_BYTES


@given(st.text(max_size=300), st.sampled_from(POLICIES))
@example("\ud800", "Attach")
@example('"; filename=evil', "Attach")
@example("x\x85y", "Attach")
def test_no_name_leaves_its_place_in_the_header(asked: str, policy: Policy) -> None:
    header = disposition(policy, "text/html", NAME, Wish(filename=asked))
    assert re.fullmatch(
        r"""(inline|attachment); filename="[ -!#-\[\]-~]*"(; filename\*=UTF-8''[\w.~%-]+)?""", header, re.ASCII
    )
    _, filename = read(header)
    assert filename is not None
    assert filename == file_name(asked)
    assert not {"/", "\\", "\r", "\n", "\0"}.intersection(filename)
    assert filename not in {"", ".", ".."}
    assert len(filename.encode()) <= MAX_BYTES
