"""`docs/wire.md` names every call, every field and every code, and its JSON is what the models read and write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from putgate_api.contract.operations import OPERATIONS
from putgate_api.contract.schemas import schemas
from putgate_protocol.messages.complete import Copying
from putgate_protocol.messages.initiate import Exists, InitiateRequest, Upload
from putgate_protocol.messages.part_limit import PartLimitAnswer
from putgate_protocol.messages.stream import StreamRequest
from putgate_protocol.problems import STATUS

WIRE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text()
BLOCKS = re.findall(r"```json\n(.*?)```", WIRE, re.DOTALL)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_call_is_named(operation: Any) -> None:
    assert operation.path in WIRE
    assert operation.method.upper() in WIRE


@pytest.mark.parametrize("name", list(schemas()))
def test_every_field_is_named(name: str) -> None:
    for field in schemas()[name].get("properties", {}):
        assert re.search(rf'[`"]{field}[`":]', WIRE), f"{name}.{field}"


def test_the_table_of_codes_is_the_codes() -> None:
    table = WIRE.partition("## Problems")[2].partition("##")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", table, re.MULTILINE)
    told: dict[str, int] = {}
    for statuses, cell in rows:
        # In a row of several statuses their codes stand apart by commas.
        groups = cell.split(", ") if "," in statuses else [cell]
        for status, group in zip(statuses.split(", "), groups, strict=True):
            told |= dict.fromkeys(re.findall(r"`(\w+)`", group), int(status))
    assert told == STATUS


@pytest.mark.parametrize(
    ("at", "model"),
    list(enumerate([PartLimitAnswer, InitiateRequest, Exists, Copying, Upload, StreamRequest])),
    ids=str,
)
def test_its_json_is_what_the_models_say(at: int, model: type[BaseModel]) -> None:
    example = json.loads(filled(BLOCKS[at]))
    message = model.model_validate_json(json.dumps(example))
    assert set(message.model_dump(exclude_none=True)) == set(example)


def filled(block: str) -> str:
    """With something where it says `…`."""
    for field in ("expires_at", "modified"):
        block = block.replace(f'"{field}":"…"', f'"{field}":"2026-11-23T08:00:00Z"')
    for field in ("file_hash", "parts"):
        block = re.sub(rf'("{field}":\[?)"…"', rf'\1"{"0" * 64}"', block)
    return block


def test_no_block_is_left_out() -> None:
    assert len(BLOCKS) == 6
