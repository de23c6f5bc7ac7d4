"""The bucket itself: is it there, create and remove it, its versions, and the one lifecycle rule of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from putgate_storage.errors import Refused
from putgate_storage.s3.calls import Calls
from putgate_storage.s3.errors import Absent, endless
from putgate_storage.s3.lifecycle import SeenXml, same_rule, settings_known_to, unknown_settings, with_rule
from putgate_storage.store import Version, VersionPage

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType
    from types_aiobotocore_s3.type_defs import (
        CreateBucketRequestTypeDef,
        GetBucketLifecycleConfigurationOutputTypeDef,
        ListObjectVersionsRequestTypeDef,
        PutBucketLifecycleConfigurationRequestTypeDef,
    )


_VERSION_PAGE = 1000
"""Versions per ListObjectVersions: S3's most."""


class Bucket:
    """`location`: where AWS is told to create it; None for its default region and for every other store."""

    def __init__(self, client: S3Client, call: Calls, name: str, location: str | None) -> None:
        self._client = client
        self._call = call
        self._name = name
        self._location = location
        self._seen = SeenXml()
        self._known = settings_known_to(client.meta.service_model)
        client.meta.events.register("before-parse.s3.GetBucketLifecycleConfiguration", self._seen)

    async def exists(self) -> bool:
        try:
            await self._call("HeadBucket", "", self._client.head_bucket(Bucket=self._name))
        except Absent:
            return False
        return True

    async def create(self) -> bool:
        """Whether it was made just now."""
        request: CreateBucketRequestTypeDef = {"Bucket": self._name}
        if self._location is not None:
            location = cast("BucketLocationConstraintType", self._location)
            request["CreateBucketConfiguration"] = {"LocationConstraint": location}
        try:
            await self._call("CreateBucket", "", self._client.create_bucket(**request))
        except Refused as refused:
            if refused.code == "BucketAlreadyOwnedByYou":
                return False
            # Some stores answer this also for one's own bucket; whose it is shows in whether we may look at it.
            if refused.code == "BucketAlreadyExists" and await self.exists():
                return False
            raise
        return True

    async def delete(self) -> None:
        try:
            await self._call("DeleteBucket", "", self._client.delete_bucket(Bucket=self._name))
        except Absent:
            return

    async def versions(self, prefix: str, token: str | None) -> VersionPage:
        request: ListObjectVersionsRequestTypeDef = {"Bucket": self._name, "Prefix": prefix, "MaxKeys": _VERSION_PAGE}
        if token is not None:
            request["KeyMarker"], request["VersionIdMarker"] = json.loads(token)
        answer = await self._call("ListObjectVersions", prefix, self._client.list_object_versions(**request))
        found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
        following = None
        if answer.get("IsTruncated"):
            following = json.dumps([answer.get("NextKeyMarker", ""), answer.get("NextVersionIdMarker", "")])
            if following == token or not answer.get("NextKeyMarker"):
                raise endless("ListObjectVersions")
        return VersionPage(
            versions=[Version(key=it["Key"], version_id=it["VersionId"]) for it in found], token=following
        )

    async def delete_version(self, version: Version) -> None:
        call = self._client.delete_object(Bucket=self._name, Key=version.key, VersionId=version.version_id)
        try:
            await self._call("DeleteObject", version.key, call)
        except Absent:
            return

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        standing = await self._lifecycle()
        wanted = with_rule(standing.get("Rules", []), rule_id, prefix, days)
        if wanted is None:
            return
        if standing.get("Rules") and (unknown := unknown_settings(self._seen.xml, self._known)):
            raise Refused(
                f"the bucket's lifecycle has settings that would be lost by writing it ({', '.join(unknown)}); "
                f"add a rule that aborts incomplete uploads below {prefix!r} after {days} days by hand",
                code="LifecycleForeign",
            )
        request: PutBucketLifecycleConfigurationRequestTypeDef = {
            "Bucket": self._name,
            "LifecycleConfiguration": {"Rules": wanted},
        }
        if "TransitionDefaultMinimumObjectSize" in standing:
            request["TransitionDefaultMinimumObjectSize"] = standing["TransitionDefaultMinimumObjectSize"]
        await self._call(
            "PutBucketLifecycleConfiguration", prefix, self._client.put_bucket_lifecycle_configuration(**request)
        )
        kept = (await self._lifecycle()).get("Rules", [])
        if not any(same_rule(rule, rule_id, prefix, days) for rule in kept):
            raise Refused(f"the store did not keep the lifecycle rule {rule_id!r}", code="LifecycleNotKept")

    async def _lifecycle(self) -> GetBucketLifecycleConfigurationOutputTypeDef:
        """What stands; without rules where there are none."""
        try:
            return await self._call(
                "GetBucketLifecycleConfiguration",
                "",
                self._client.get_bucket_lifecycle_configuration(Bucket=self._name),
            )
        except Absent:
            return cast("GetBucketLifecycleConfigurationOutputTypeDef", {})
