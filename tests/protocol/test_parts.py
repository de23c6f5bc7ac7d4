from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_protocol.parts import MIB, Part, PartPlan, PartRule

RULE = PartRule(part_size=8 * MIB, max_parts=10_000)
TIB = 1024**4

small_rules = st.builds(PartRule, part_size=st.integers(1, 50), max_parts=st.integers(1, 20))


@given(small_rules, st.integers(0, 20_000))
def test_parts_partition_the_file(rule: PartRule, size: int) -> None:
    plan = rule.plan(size)
    parts = list(plan)
    assert [part.number for part in parts] == list(range(1, plan.count + 1))
    at = 0
    for part in parts:
        assert part.offset == at
        at += part.length
    assert at == size
    assert all(part.length == plan.part_size for part in parts[:-1])
    assert all(1 <= part.length <= plan.part_size for part in parts[-1:])


@given(small_rules, st.integers(0, 20_000))
def test_the_rule_doubles_no_more_than_it_must(rule: PartRule, size: int) -> None:
    used = rule.part_size_for(size)
    assert -(-size // used) <= rule.max_parts
    factor, rest = divmod(used, rule.part_size)
    assert rest == 0
    assert factor & (factor - 1) == 0
    assert used == rule.part_size or -(-size // (used // 2)) > rule.max_parts


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_larger_file_never_has_smaller_parts(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert RULE.part_size_for(low) <= RULE.part_size_for(high)


@pytest.mark.parametrize(
    ("size", "part_size", "count"),
    [
        (0, 8 * MIB, 0),
        (1, 8 * MIB, 1),
        (8 * MIB - 1, 8 * MIB, 1),
        (8 * MIB, 8 * MIB, 1),
        (8 * MIB + 1, 8 * MIB, 2),
        (80_000 * MIB - 1, 8 * MIB, 10_000),
        (80_000 * MIB, 8 * MIB, 10_000),
        (80_000 * MIB + 1, 16 * MIB, 5_001),
        (5 * TIB, 1024 * MIB, 5_120),
    ],
)
def test_boundaries(size: int, part_size: int, count: int) -> None:
    plan = RULE.plan(size)
    assert (plan.part_size, plan.count) == (part_size, count)


def test_a_single_part() -> None:
    assert PartPlan(size=25, part_size=10).part(3) == Part(number=3, offset=20, length=5)


@pytest.mark.parametrize("number", [0, -1, 4])
def test_a_number_outside_the_plan(number: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        PartPlan(size=25, part_size=10).part(number)


def test_what_is_no_plan() -> None:
    for size, part_size in ((-1, 10), (1, 0)):
        with pytest.raises(ValueError, match="size"):
            PartPlan(size=size, part_size=part_size)
    for part_size, max_parts in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="positive"):
            PartRule(part_size=part_size, max_parts=max_parts)
    with pytest.raises(ValueError, match="negative"):
        RULE.part_size_for(-1)
