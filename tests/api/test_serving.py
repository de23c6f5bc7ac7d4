"""When a process counts as ready: once it could do all that a call needs, and from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from putgate_api.app import authenticator
from putgate_api.auth.authenticate import Nobody, NotAuthenticated, NoTokens
from putgate_api.prepare.status import Status
from putgate_api.routes.serving import Serving
from putgate_protocol.report import ReportedCondition
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.load import SettingsError
from tests.api.memory_bucket import Clock, bucket, memory_store


class Unsure(Nobody):
    """Cannot tell callers apart, until `status` says so."""

    status = "False"

    def condition(self) -> ReportedCondition:
        return ReportedCondition.model_validate(
            {"type": "Authentication", "status": self.status, "reason": "JWKSUnreachable", "message": "no keys yet"}
        )


def test_who_has_never_told_callers_apart_is_not_ready() -> None:
    who = Unsure()
    serving = Serving(who, Status())
    serving.prepared = bucket(memory_store(Clock()))
    assert not serving.ready
    assert serving.why_unready == "no keys yet"
    who.status = "True"
    assert serving.ready
    who.status = "False"
    assert serving.ready, "an API server that is away must not take those away who know its keys"


def settings(**more: object) -> ApiSettings:
    s3 = {"bucket": "bucket", "endpoint": "http://store.invalid"}
    return ApiSettings.model_validate({"storage": {"s3": s3}, "upload_keys": {"file": Path("/unused")}, **more})


async def test_an_uploadbucket_may_take_no_tokens_at_all() -> None:
    identity = {"uploadbucket_uid": "uid", "settings_hash": "0123456789"}
    who = authenticator(settings(identity=identity), insecure=False)
    assert isinstance(who, NoTokens)
    assert who.condition().status == "True"
    for header in (None, "Bearer anything"):
        with pytest.raises(NotAuthenticated):
            await who.authenticate(header)
    with pytest.raises(SettingsError, match="nobody could call"):
        authenticator(settings(), insecure=False)
