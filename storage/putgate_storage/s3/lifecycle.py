"""One lifecycle rule among others: ours is recognised by its id, every other rule stays as it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import LifecycleRuleOutputTypeDef, LifecycleRuleUnionTypeDef


def same_rule(rule: LifecycleRuleOutputTypeDef, rule_id: str, prefix: str, days: int) -> bool:
    """Whether this is our rule, as wanted. Stores give a prefix back in the old place or the new one."""
    return (
        rule.get("ID") == rule_id
        and rule.get("Status") == "Enabled"
        and _prefix(rule) == prefix
        and rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation") == days
    )


def with_rule(
    rules: Sequence[LifecycleRuleOutputTypeDef], rule_id: str, prefix: str, days: int
) -> list[LifecycleRuleUnionTypeDef] | None:
    """The rules with ours as wanted; None where it is so already."""
    if any(same_rule(rule, rule_id, prefix, days) for rule in rules):
        return None
    others = [cast("LifecycleRuleUnionTypeDef", rule) for rule in rules if rule.get("ID") != rule_id]
    return [
        *others,
        {
            "ID": rule_id,
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        },
    ]


def _prefix(rule: LifecycleRuleOutputTypeDef) -> str:
    return rule.get("Filter", {}).get("Prefix") or rule.get("Prefix") or ""
