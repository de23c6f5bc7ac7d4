"""What an API process says of itself on its admin port, `GET /report`; the operator makes conditions of it.

A report comes from a pod that its namespace controls: it is read strictly and bounded, and changes nothing but the
status of the UploadBucket that the pod belongs to.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_REPORT_BYTES = 64 * 1024

ConditionType = Literal["CredentialsValid", "BucketReady", "BucketConfigured", "IntegrityVerified", "Authentication"]
State = Literal["Preparing", "Ready", "Degraded"]

_Text = Annotated[str, Field(max_length=1024)]
_Id = Annotated[str, Field(max_length=128)]
_Limit = Annotated[int, Field(ge=0, lt=2**53)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Pod(_Strict):
    name: _Id
    uid: _Id


class ReportedCondition(_Strict):
    """`user_error`: it waits for somebody to change something; otherwise for the store or the cluster to recover."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]
    message: _Text
    user_error: bool = False


class Integrity(_Strict):
    """`probed_at`: RFC 3339, UTC."""

    tier: Literal["sha256", "md5", "none"]
    probed_at: Annotated[str, Field(max_length=32)]
    findings: Annotated[list[_Text], Field(max_length=32)]


class Claimed(_Strict):
    created: bool
    claim_id: _Id


class Report(_Strict):
    """`upload_keys`: the ids that are loaded. `capabilities`, `limits`: shown in status as they are."""

    version: _Id
    pod: Pod
    uploadbucket_uid: _Id
    settings_hash: _Id
    rules_hash: _Id | None
    upload_keys: Annotated[list[_Id], Field(max_length=16)]
    state: State
    conditions: Annotated[list[ReportedCondition], Field(max_length=8)]
    integrity: Integrity | None
    capabilities: Annotated[dict[_Id, bool], Field(max_length=32)]
    limits: Annotated[dict[_Id, _Limit], Field(max_length=32)]
    bucket: Claimed | None
