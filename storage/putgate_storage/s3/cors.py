"""One CORS rule among others: ours is recognised by its id, every other rule stays as it is.

As with the lifecycle, a bucket's rules are written as a whole, so what the library would lose on the way is looked for
before. The rule lets pages read and write objects by URLs that somebody signed for them, and nothing else: CORS grants
no access, it only tells browsers what may be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from putgate_storage.errors import Refused
from putgate_storage.s3.calls import Calls
from putgate_storage.s3.errors import Absent
from putgate_storage.s3.lifecycle import SeenXml, settings_known_to, unknown_settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CORSRuleOutputTypeDef, CORSRuleUnionTypeDef

METHODS = ("GET", "HEAD", "PUT")
EXPOSED = ("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag")
"""What a page may read of an answer beside what every page may: a download in ranges goes by these."""

MAX_AGE = 3600
"""Seconds for which a browser remembers. Too short, and each part costs two requests; too long, and an origin that was
taken away goes on for as long (browsers themselves keep it for two hours at the most).
"""


def wanted_rule(rule_id: str, origins: Sequence[str]) -> CORSRuleOutputTypeDef:
    return {
        "ID": rule_id,
        "AllowedOrigins": list(origins),
        "AllowedMethods": list(METHODS),
        # What is signed is decided by the URL; which headers that takes is nothing to tell a browser twice.
        "AllowedHeaders": ["*"],
        "ExposeHeaders": list(EXPOSED),
        "MaxAgeSeconds": MAX_AGE,
    }


def with_rule(
    rules: Sequence[CORSRuleOutputTypeDef], rule_id: str, origins: Sequence[str]
) -> list[CORSRuleOutputTypeDef] | None:
    """The rules with ours as wanted (without it where there are no origins); None where it is so already."""
    ours = [rule for rule in rules if rule.get("ID") == rule_id]
    wanted = [wanted_rule(rule_id, origins)] if origins else []
    if _comparable(ours) == _comparable(wanted):
        return None
    return [*(rule for rule in rules if rule.get("ID") != rule_id), *wanted]


def _comparable(rules: Sequence[CORSRuleOutputTypeDef]) -> list[dict[str, object]]:
    """Stores give lists back in another order, and header names in another case."""
    return [
        {
            key: sorted(each.lower() for each in cast("list[str]", value)) if isinstance(value, list) else value
            for key, value in rule.items()
            if value != []
        }
        for rule in rules
    ]


class BucketCors:
    """The CORS rules of one bucket."""

    def __init__(self, client: S3Client, call: Calls, name: str) -> None:
        self._client = client
        self._call = call
        self._name = name
        self._seen = SeenXml()
        self._known = settings_known_to(client.meta.service_model, "PutBucketCors", "CORSConfiguration")
        client.meta.events.register("before-parse.s3.GetBucketCors", self._seen)

    async def ensure_rule(self, rule_id: str, origins: Sequence[str]) -> None:
        standing = await self._rules()
        wanted = with_rule(standing, rule_id, origins)
        if wanted is None:
            return
        if standing and (unknown := unknown_settings(self._seen.xml, self._known)):
            raise Refused(
                f"the bucket's CORS rules have settings that would be lost by writing them ({', '.join(unknown)}); "
                f"add a rule for {', '.join(origins) or 'nobody'} by hand",
                code="CorsForeign",
            )
        if wanted:
            rules = cast("list[CORSRuleUnionTypeDef]", wanted)
            put = self._client.put_bucket_cors(Bucket=self._name, CORSConfiguration={"CORSRules": rules})
            await self._call("PutBucketCors", "", put)
        else:
            # Ours was the only one, and a configuration without rules is none.
            await self._call("DeleteBucketCors", "", self._client.delete_bucket_cors(Bucket=self._name))
        if with_rule(await self._rules(), rule_id, origins) is not None:
            raise Refused(f"the store did not keep the CORS rule {rule_id!r}", code="CorsNotKept")

    async def _rules(self) -> Sequence[CORSRuleOutputTypeDef]:
        try:
            answer = await self._call("GetBucketCors", "", self._client.get_bucket_cors(Bucket=self._name))
        except Absent:
            return []
        return answer.get("CORSRules", [])
