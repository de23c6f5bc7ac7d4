"""The API dies, or an answer of the store is lost, at every point of a copy inside the store.

The same call, repeated against a new process, ends in one whole file, no open upload, and no byte sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import pytest

from tests.api.test_crashes import (
    Again,
    Stack,
    check,
    fault_names,
    same,
    stack,  # noqa: F401
    upload_once,
    upload_until_done,
)
from tests.servers.proxy import When
from tests.servers.proxy_calls import Call, Predicate, nth
from tests.servers.proxy_faults import CutBefore, LoseAnswer

pytestmark = pytest.mark.slow


def of_copy(name: str) -> Predicate:
    """The API's own calls to the store for this name, and for what is known of its content."""
    folder = name.partition("/")[0].encode()
    records = (b".putgate/v1/sessions/", b".putgate/v1/index/")

    def matches(call: Call) -> bool:
        return not call.presigned and (folder in call.key or any(record in call.key for record in records))

    return matches


async def copied_names(stack: Stack) -> list[str]:  # noqa: F811
    """A name for each point of a copy, whose source is stored; from here on bytes are counted."""
    await upload_once(stack.calls, f"{secrets.token_hex(4)}/undisturbed", same)
    stack.proxy.reset()
    copy = f"{secrets.token_hex(4)}/undisturbed"
    await upload_once(stack.calls, copy, same)
    matches = of_copy(copy)
    kinds = [call.kind for call in stack.proxy.requests if matches(call)]
    assert kinds.count("UploadPartCopy") == 2
    assert kinds.count("CompleteMultipartUpload") == 1
    return fault_names(kinds)


async def all_copied(stack: Stack, names: list[str], until_done: Callable[[str], Awaitable[None]]) -> None:  # noqa: F811
    for name in names:
        await until_done(name)
    await check(stack, names, same)
    assert stack.proxy.put_body_bytes == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_api_is_killed_at_each_point_of_a_copy(stack: Stack, when: When) -> None:  # noqa: F811
    names = await copied_names(stack)
    for at, name in enumerate(names, 1):
        stack.proxy.on(nth(at, of_copy(name)), lambda _: stack.api.kill(), when=when, times=1)
        with pytest.raises(Again):
            await upload_once(stack.calls, name, same)
        stack.proxy.heal()
        stack.api.start()
    await all_copied(stack, names, lambda name: upload_until_done(stack.calls, name, same))


@pytest.mark.parametrize("fault", [LoseAnswer(), CutBefore()], ids=["lost", "cut"])
async def test_each_answer_of_the_store_about_a_copy_is_lost_once(
    stack: Stack,  # noqa: F811
    fault: LoseAnswer | CutBefore,
) -> None:
    names = await copied_names(stack)

    async def disturbed(name: str) -> None:
        stack.proxy.rule(nth(names.index(name) + 1, of_copy(name)), fault, times=1)
        await upload_until_done(stack.calls, name, same)
        stack.proxy.heal()

    await all_copied(stack, names, disturbed)
