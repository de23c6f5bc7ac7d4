"""The bucket itself: is it there, create it, and the one lifecycle rule of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from putgate_storage.errors import Refused
from putgate_storage.s3.calls import Calls
from putgate_storage.s3.errors import Absent
from putgate_storage.s3.lifecycle import same_rule, with_rule

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType
    from types_aiobotocore_s3.type_defs import CreateBucketRequestTypeDef, LifecycleRuleOutputTypeDef


class Bucket:
    """`location`: where AWS is told to create it; None for its default region and for every other store."""

    def __init__(self, client: S3Client, call: Calls, name: str, location: str | None) -> None:
        self._client = client
        self._call = call
        self._name = name
        self._location = location

    async def exists(self) -> bool:
        try:
            await self._call("HeadBucket", "", self._client.head_bucket(Bucket=self._name))
        except Absent:
            return False
        return True

    async def create(self) -> None:
        request: CreateBucketRequestTypeDef = {"Bucket": self._name}
        if self._location is not None:
            location = cast("BucketLocationConstraintType", self._location)
            request["CreateBucketConfiguration"] = {"LocationConstraint": location}
        try:
            await self._call("CreateBucket", "", self._client.create_bucket(**request))
        except Refused as refused:
            if refused.code == "BucketAlreadyOwnedByYou":
                return
            # Some stores answer this also for one's own bucket; whose it is shows in whether we may look at it.
            if refused.code == "BucketAlreadyExists" and await self.exists():
                return
            raise

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        wanted = with_rule(await self._rules(), rule_id, prefix, days)
        if wanted is None:
            return
        await self._call(
            "PutBucketLifecycleConfiguration",
            prefix,
            self._client.put_bucket_lifecycle_configuration(
                Bucket=self._name, LifecycleConfiguration={"Rules": wanted}
            ),
        )
        if not any(same_rule(rule, rule_id, prefix, days) for rule in await self._rules()):
            raise Refused(f"the store did not keep the lifecycle rule {rule_id!r}", code="LifecycleNotKept")

    async def _rules(self) -> list[LifecycleRuleOutputTypeDef]:
        try:
            answer = await self._call(
                "GetBucketLifecycleConfiguration",
                "",
                self._client.get_bucket_lifecycle_configuration(Bucket=self._name),
            )
        except Absent:
            return []
        return answer.get("Rules", [])
