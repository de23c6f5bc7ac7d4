"""Events for people: `kubectl describe` shows them. Losing one loses nothing, so a failure is logged and no more."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import structlog

from putgate_operator.api_server import ApiServer
from putgate_operator.desired.outcome import Event
from putgate_operator.errors import OperatorError
from putgate_operator.kinds import EVENT, UPLOAD_BUCKET

CONTROLLER = "putgate.io/operator"
_MAX_NOTE = 1024

log = structlog.get_logger("putgate.operator")


async def post(server: ApiServer, regarding: dict[str, Any], event: Event, instance: str) -> None:
    metadata = regarding["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
        "eventTime": now,
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": event.type,
        "reason": event.reason,
        "note": event.message[:_MAX_NOTE],
        "regarding": {
            "apiVersion": UPLOAD_BUCKET.api_version,
            "kind": UPLOAD_BUCKET.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    try:
        await server.create(EVENT, body)
    except OperatorError as error:
        log.warning("an event could not be posted", reason=event.reason, code=error.code)
