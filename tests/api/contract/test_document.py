"""The document is the code: every route and every code is in it, its examples fit their models, and it is committed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from putgate_api.auth.authenticate import Nobody
from putgate_api.contract import examples
from putgate_api.contract.document import DEFAULT_SERVER, document, text
from putgate_api.contract.operations import OPERATIONS, Answer, Operation
from putgate_api.metrics import Metrics
from putgate_api.prepare.status import Status
from putgate_api.routes.contract import add_contract_routes
from putgate_api.routes.files import add_file_routes
from putgate_api.routes.objects import add_object_routes
from putgate_api.routes.serving import Serving
from putgate_protocol.digests import FileHash, PartHash
from putgate_protocol.messages.base import Message
from putgate_protocol.messages.batch import BatchRequest
from putgate_protocol.messages.complete import CompleteRequest
from putgate_protocol.messages.initiate import InitiateRequest
from putgate_protocol.problems import STATUS

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"
DOCUMENT = document(DEFAULT_SERVER)


def test_it_is_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_what_is_committed_is_what_is_generated() -> None:
    assert COMMITTED.read_text() == text(DOCUMENT), "run `make openapi`"


def test_every_route_is_described_and_nothing_else() -> None:
    app = web.Application()
    serving = Serving(Nobody(), Status())
    add_object_routes(app, serving, Metrics())
    add_file_routes(app, serving, "Attach")
    add_contract_routes(app, None)
    served = {
        (route.method.lower(), route.resource.canonical) for route in app.router.routes() if route.resource is not None
    }
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    # HTTP gives each GET a HEAD of the same headers.
    assert served - {("head", path) for method, path in described if method == "get"} == described - {
        ("head", "/files/{name}")
    }
    assert served >= described


def test_every_code_is_some_calls_answer() -> None:
    only_in_a_batch = {"name_conflict"}
    assert {code for operation in OPERATIONS for code in operation.codes} == set(STATUS) - only_in_a_batch


def answers() -> Iterator[Any]:
    for operation in OPERATIONS:
        for answer in operation.answers:
            for name, example in answer.examples.items():
                yield pytest.param(operation, answer, example, id=f"{operation.id}-{answer.status}-{name}")


def requests() -> Iterator[Any]:
    for operation in OPERATIONS:
        for name, example in operation.request_examples.items():
            yield pytest.param(operation, example, id=f"{operation.id}-{name}")


def parses(model: type[Message], example: dict[str, Any]) -> Message:
    return model.model_validate_json(json.dumps(example))


@pytest.mark.parametrize(("operation", "example"), list(requests()))
def test_examples_of_requests_are_whole_requests(operation: Operation, example: dict[str, Any]) -> None:
    fitting = []
    for model in operation.requests:
        try:
            message = parses(model, example)
        except ValueError:
            continue
        if message.model_dump(mode="json", exclude_unset=True) == example:
            fitting.append(model)
            fits(model.__name__, example)
    assert len(fitting) == 1


@pytest.mark.parametrize(("operation", "answer", "example"), list(answers()))
def test_examples_of_answers_are_what_the_models_write(
    operation: Operation, answer: Answer, example: dict[str, Any]
) -> None:
    fitting = []
    for model in answer.models:
        try:
            message = parses(model, example)
        except ValueError:
            continue
        assert message.to_wire() == example
        fitting.append(model)
        fits(model.__name__, example)
    assert len(fitting) == 1
    content = DOCUMENT["paths"][operation.path][operation.method]["responses"][str(answer.status)]["content"]
    assert example in [each["value"] for each in content["application/json"]["examples"].values()]


def test_every_message_has_an_example() -> None:
    for operation in OPERATIONS:
        assert bool(operation.requests) == bool(operation.request_examples), operation.id
        for answer in operation.answers:
            assert bool(answer.models) == bool(answer.examples), (operation.id, answer.status)


@pytest.mark.parametrize("example", [examples.INITIATE, examples.INITIATE_SMALL], ids=["multipart", "one_part"])
def test_declared_examples_keep_the_part_rule_and_hash_to_their_file_hash(example: dict[str, Any]) -> None:
    plan = examples.RULE.plan(example["size"])
    assert (plan.part_size, plan.count) == (example["part_size"], len(example["parts"]))
    assert str(FileHash.of(map(PartHash.parse, example["parts"]))) == example["file_hash"]


def test_the_items_of_the_batch_are_requests_too() -> None:
    batch = parses(BatchRequest, examples.BATCH)
    assert isinstance(batch, BatchRequest)
    first, second = batch.items
    InitiateRequest.model_validate(first["initiate"])
    CompleteRequest.model_validate(second["complete"])


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("InitiateRequest", {"name_b64": "eA=="}),
        ("InitiateRequest", {"size": "12"}),
        ("InitiateRequest", {"file_hash": "A" * 64}),
        ("BatchRequest", {"items": [{"initiate": {}}]}),
        ("Exists", {"status": "upload"}),
        ("ListAnswer", {"cursor": 1}),
        ("File", {"url": None}),
    ],
    ids=str,
)
def test_the_schemas_refuse_what_the_protocol_does(name: str, broken: dict[str, Any]) -> None:
    whole = {
        "InitiateRequest": examples.INITIATE,
        "BatchRequest": examples.BATCH,
        "Exists": examples.EXISTS,
        "ListAnswer": examples.LISTING,
        "File": examples.FILE,
    }[name]
    fits(name, whole)
    with pytest.raises(jsonschema.ValidationError):
        fits(name, whole | broken)


def fits(name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)
