"""Part hashes are those of the protocol, however they are computed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate.errors import SourceChanged
from putgate.upload.hashing import CHUNK, hash_part, hash_parts
from putgate.upload.source import BytesReading, FileSource
from putgate_protocol.digests import FileHash, Md5, PartHash
from putgate_protocol.parts import PartPlan


async def _hashes(data: bytes, part_size: int, first: int, threads: int) -> list[PartHash]:
    with ThreadPoolExecutor(4) as pool:
        plan = PartPlan(size=len(data), part_size=part_size)
        told: list[int] = []
        found = [
            digest.sha256
            async for digest in hash_parts(
                BytesReading(data, ""), plan, first=first, threads=threads, pool=pool, on_hashed=told.append
            )
        ]
        assert told == [part.length for part in plan if part.number >= first]
        return found


@given(st.binary(max_size=400), st.integers(1, 60), st.integers(1, 5), st.integers(1, 4))
async def test_equal_to_the_protocol(data: bytes, part_size: int, first: int, threads: int) -> None:
    plain = [PartHash(hashlib.sha256(data[at : at + part_size]).digest()) for at in range(0, len(data), part_size)]
    assert await _hashes(data, part_size, first, threads) == plain[first - 1 :]


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_parts_of_several_chunks(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    reading = FileSource(path).open()
    part = PartPlan(size=size, part_size=size).part(1)
    assert FileHash.of([hash_part(reading, part).sha256]) == FileHash.of([hashlib.sha256(path.read_bytes()).digest()])
    reading.close()


def test_both_digests_come_of_one_reading() -> None:
    class Counted(BytesReading):
        read = 0

        def pread(self, length: int, offset: int) -> bytes:
            self.read += length
            return super().pread(length, offset)

    data = os.urandom(2 * CHUNK + 7)
    reading, part = Counted(data, ""), PartPlan(size=len(data), part_size=len(data)).part(1)
    assert hash_part(reading, part, with_md5=True) == (PartHash.of(data), Md5.of(data))
    assert reading.read == len(data)
    assert hash_part(reading, part).md5 is None


def test_a_file_cut_short_is_noticed_while_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    reading = FileSource(path).open()
    os.truncate(path, 50)
    with pytest.raises(SourceChanged, match="cut short"):
        hash_part(reading, PartPlan(size=100, part_size=100).part(1))
    reading.close()
