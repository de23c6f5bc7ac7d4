"""Whatever is sent to a real API on a real store: it never fails, and answers only with what the document says.

Each call succeeds at least once, from what was prepared; it is then sent what fits its schema, what does not, and good
requests with one thing in them exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, openapi
from schemathesis.checks import CHECKS

from putgate_api.contract.document import DEFAULT_SERVER, document
from tests.api.contract.world import World, good, prepared
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

EXAMPLES = 50
SLOWLY_MADE = {"batch": 8}
"""Of a thousand whole requests in one, schemathesis makes a few in a second."""

# Without its security: tokens are not to be made up, but always good.
SCHEMA = openapi.from_dict(document(DEFAULT_SERVER) | {"security": []})
OPERATIONS = {found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations()}
CHECKED = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fuzzing")]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS) -> Iterator[ApiProcess]:
    api = ApiProcess(tmp_path_factory.mktemp("fuzzed"), seaweedfs, prefix="fuzzed/").start_probed()
    yield api
    api.kill()


@pytest.fixture(scope="module")
def world(fuzzed: ApiProcess) -> World:
    return prepared(fuzzed, "good/")


@pytest.fixture(scope="module")
def spoiled(fuzzed: ApiProcess) -> World:
    """Another, since uploads are completed and aborted here as it comes."""
    return prepared(fuzzed, "spoiled/")


def send(api: ApiProcess, case: Any, token: str | None = None) -> int:
    """The status of an answer that is as documented."""
    headers = {"Authorization": f"Bearer {token or api.token}"}
    answer = case.call(base_url=api.url, headers=headers, allow_redirects=False, timeout=30)
    case.validate_response(answer, checks=CHECKED)
    status: int = answer.status_code
    # 501 says what this store cannot do; any other 5xx is a failure, documented though it is.
    assert status < 500 or status == 501, answer.text
    return status


@pytest.mark.parametrize("name", OPERATIONS)
def test_good_requests_succeed(fuzzed: ApiProcess, world: World, name: str) -> None:
    operation = OPERATIONS[name]
    seen = set()
    for request in good(world)[name]:
        media = {"media_type": "application/json"} if "body" in request else {}
        seen.add(send(fuzzed, operation.Case(**request, **media)))
    documented = {int(status) for status in operation.definition.raw["responses"]}
    assert seen == {status for status in documented if status < 400}


@pytest.mark.parametrize("name", OPERATIONS)
def test_who_has_no_good_token_gets_401_but_where_none_is_needed(fuzzed: ApiProcess, world: World, name: str) -> None:
    operation = OPERATIONS[name]
    first = good(world)[name][0]
    media = {"media_type": "application/json"} if "body" in first else {}
    status = send(fuzzed, operation.Case(**first, **media), token="no-such-token")
    assert (status == 401) is (operation.definition.raw.get("security") is None)


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_sent_the_answer_is_documented(fuzzed: ApiProcess, spoiled: World, name: str) -> None:
    operation = OPERATIONS[name]
    known = good(spoiled)[name]
    uploads = st.sampled_from([spoiled.open, spoiled.sent, spoiled.unused, spoiled.cursor])
    cases = operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)

    @settings(
        max_examples=SLOWLY_MADE.get(name, EXAMPLES),
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, request=st.sampled_from(known), at=st.integers(0, 15), upload=uploads)
    def fuzz(case: Any, request: dict[str, Any], at: int, upload: str) -> None:
        _keep_most(case, request, at, upload)
        status = send(fuzzed, case)
        assert status != 401

    fuzz()


def _keep_most(case: Any, request: dict[str, Any], at: int, upload: str) -> None:
    """Of two cases in three, all but one member of a good body, so that the use cases are reached and not only the
    parser; about some upload that is open, complete or aborted by now. Of every other path, a good one.
    """
    if "path_parameters" in request and at % 2:
        case.path_parameters = request["path_parameters"]
    body = request.get("body")
    if not isinstance(body, dict) or not isinstance(case.body, dict) or at % 3 == 0:
        return
    fields = sorted({*body, *case.body})
    changed = fields[at % len(fields)]
    about = {"upload_id": upload} if "upload_id" in body else {}
    case.body = body | {key: value for key, value in case.body.items() if key == changed and key not in about} | about
