"""One lifecycle rule among others: ours is recognised by its id, every other rule stays as it is. Pure.

A bucket's rules are written as a whole. What the library does not know of them would be lost on the way, so the
answer's own XML is compared with what it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

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


class SeenXml:
    """A botocore handler that keeps the body of the last answer that it was told of."""

    def __init__(self) -> None:
        self.xml = b""

    def __call__(self, response_dict: Mapping[str, Any], **_: object) -> None:
        self.xml = response_dict["body"]


def unknown_settings(xml: bytes, known: frozenset[str]) -> list[str]:
    """The names of elements that the library would drop."""
    if not xml.strip():
        return []
    names = {element.tag.rpartition("}")[2] for element in ET.fromstring(xml).iter()}  # noqa: S314 - as above
    return sorted(names - known)


def settings_known_to(
    model: Any, operation: str = "PutBucketLifecycleConfiguration", member: str = "LifecycleConfiguration"
) -> frozenset[str]:
    """The XML names of everything that botocore's model has of what an operation writes."""
    shape = model.operation_model(operation).input_shape.members[member]
    names = {member}
    _collect(shape, names)
    return frozenset(names)


def _collect(shape: Any, names: set[str]) -> None:
    if shape.type_name == "list":
        _collect(shape.member, names)
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            names.add(member.serialization.get("name", name))
            if member.type_name == "list":
                names.add(member.member.serialization.get("name", name))
            _collect(member, names)
