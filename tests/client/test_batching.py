"""Batches hold what the API takes, whatever is declared."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from putgate.upload.batching import Bounds, batches
from putgate.wire import batch_body


@dataclass(frozen=True)
class Item:
    name: bytes
    json: bytes
    parts: int
    size: int


items = st.lists(
    st.builds(
        Item,
        name=st.binary(min_size=1, max_size=3),
        json=st.integers(0, 300).map(lambda size: b'{"x":"%b"}' % (b"y" * size)),
        parts=st.integers(0, 12),
        size=st.integers(0, 120),
    ),
    max_size=60,
)
bounds = st.builds(
    Bounds,
    items=st.integers(1, 20),
    hashes=st.integers(12, 60),
    signatures=st.integers(12, 60),
    body=st.integers(400, 3000),
    put_bytes=st.integers(120, 600),
)


@given(items, bounds)
def test_every_batch_is_within_every_bound(declared: list[Item], bound: Bounds) -> None:
    for batch in batches(declared, bound):
        names = [item.name for item in batch]
        assert names == sorted(set(names))
        assert len(batch) <= bound.items
        assert sum(item.parts for item in batch) <= min(bound.hashes, bound.signatures)
        assert sum(item.size for item in batch) <= bound.put_bytes
        assert len(batch_body(b"initiate", [item.json for item in batch])) <= bound.body


@given(items, bounds)
def test_nothing_is_lost_or_doubled_and_no_batch_is_empty(declared: list[Item], bound: Bounds) -> None:
    split = list(batches(declared, bound))
    assert all(split)
    key = lambda item: (item.name, item.json, item.parts, item.size)  # noqa: E731
    assert sorted((item for batch in split for item in batch), key=key) == sorted(declared, key=key)


def test_what_fits_is_one_batch() -> None:
    declared = [Item(b"%04d" % number, b"{}", 1, 4096) for number in range(2500)]
    assert [len(batch) for batch in batches(declared, Bounds())] == [1000, 1000, 500]


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers()), min_size=1, max_size=5))
def test_a_body_is_the_json_of_its_items(requests: list[dict[str, int]]) -> None:
    body = json.loads(batch_body(b"complete", [json.dumps(request).encode() for request in requests]))
    assert body == {"items": [{"complete": request} for request in requests]}
