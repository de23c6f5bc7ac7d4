"""What the probe found, as a value: rows, and what follows from them. Pure; it travels as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, Self

Verdict = Literal["passed", "failed", "inconclusive"]
Tier = Literal["sha256", "md5", "none"]

FORMAT = 1


class Check(StrEnum):
    """One row each. `PART_…` by UploadPart, `PUT_…` by PutObject."""

    PART_ACCEPTED = "part_accepted"
    PART_SHA256 = "part_sha256"
    PART_MD5 = "part_md5"
    PART_LENGTH = "part_length"
    PART_SIGNATURE = "part_signature"
    PART_EXPIRY = "part_expiry"
    PART_COPY_SOURCE = "part_copy_source"
    PART_COPY_SOURCE_MD5 = "part_copy_source_md5"
    PART_ACL = "part_acl"
    PART_GRANT = "part_grant"
    PART_TAGGING = "part_tagging"
    PART_META = "part_meta"
    PUT_ACCEPTED = "put_accepted"
    PUT_SHA256 = "put_sha256"
    PUT_MD5 = "put_md5"
    PUT_LENGTH = "put_length"
    PUT_SIGNATURE = "put_signature"
    PUT_EXPIRY = "put_expiry"
    PUT_COPY_SOURCE = "put_copy_source"
    PUT_ACL = "put_acl"
    PUT_GRANT = "put_grant"
    PUT_TAGGING = "put_tagging"
    PUT_META = "put_meta"
    PUT_IF_ABSENT = "put_if_absent"
    PUT_IF_MATCH = "put_if_match"
    COMPLETE_CONDITION = "complete_condition"
    COMPLETE_AGAINST_PUT = "complete_against_put"
    PART_AFTER_COMPLETE = "part_after_complete"
    PART_AFTER_ABORT = "part_after_abort"
    COMPLETE_AFTER_OVERWRITE = "complete_after_overwrite"
    COMPLETE_AFTER_DELETE = "complete_after_delete"
    COMPLETE_SHA256 = "complete_sha256"
    LIST_PARTS_PAGES = "list_parts_pages"
    PART_ETAG_MD5 = "part_etag_md5"
    PART_COPY_RANGE = "part_copy_range"
    PART_COPY_WHOLE = "part_copy_whole"
    DELETE_IF_MATCH = "delete_if_match"


WHEN_FAILED: Mapping[Check, str] = {
    Check.PART_ACCEPTED: "a correct part is not accepted",
    Check.PART_SHA256: "parts are kept whose bytes are not what the signed SHA-256 says",
    Check.PART_MD5: "parts are kept whose bytes are not what the signed MD5 says",
    Check.PART_LENGTH: "parts are kept whose length is not the signed one",
    Check.PART_SIGNATURE: "parts are kept under a wrong signature",
    Check.PART_EXPIRY: "parts are kept under an expired URL",
    Check.PART_COPY_SOURCE: "an unsigned x-amz-copy-source turns a part into a copy, or is let pass",
    Check.PART_COPY_SOURCE_MD5: "an unsigned x-amz-copy-source on a part with a signed MD5 is let pass",
    Check.PART_ACL: "an unsigned x-amz-acl on a part is let pass",
    Check.PART_GRANT: "an unsigned x-amz-grant-read on a part is let pass",
    Check.PART_TAGGING: "an unsigned x-amz-tagging on a part is let pass",
    Check.PART_META: "an unsigned x-amz-meta header on a part is let pass",
    Check.PUT_ACCEPTED: "a correct PutObject is not accepted",
    Check.PUT_SHA256: "objects are kept whose bytes are not what the signed SHA-256 says",
    Check.PUT_MD5: "objects are kept whose bytes are not what the signed MD5 says",
    Check.PUT_LENGTH: "objects are kept whose length is not the signed one",
    Check.PUT_SIGNATURE: "objects are kept under a wrong signature",
    Check.PUT_EXPIRY: "objects are kept under an expired URL",
    Check.PUT_COPY_SOURCE: "an unsigned x-amz-copy-source turns a PutObject into a copy, or is let pass",
    Check.PUT_ACL: "an unsigned x-amz-acl on a PutObject is let pass",
    Check.PUT_GRANT: "an unsigned x-amz-grant-read on a PutObject is let pass",
    Check.PUT_TAGGING: "an unsigned x-amz-tagging on a PutObject is let pass",
    Check.PUT_META: "an unsigned x-amz-meta header on a PutObject is let pass",
    Check.PUT_IF_ABSENT: "of several PUTs with If-None-Match, not exactly one wins",
    Check.PUT_IF_MATCH: "of several PUTs with If-Match, not exactly one wins",
    Check.COMPLETE_CONDITION: "of several conditional Completes, not exactly one wins",
    Check.COMPLETE_AGAINST_PUT: "of conditional Completes and PUTs together, not exactly one wins",
    Check.PART_AFTER_COMPLETE: "a part sent after the complete changes the object",
    Check.PART_AFTER_ABORT: "a part sent after the abort brings something back",
    Check.COMPLETE_AFTER_OVERWRITE: "a repeated complete undoes an overwrite",
    Check.COMPLETE_AFTER_DELETE: "a repeated complete undoes a delete",
    Check.COMPLETE_SHA256: "the parts' SHA-256 are not accepted in a complete",
    Check.LIST_PARTS_PAGES: "ListParts does not show every part with its size over several pages",
    Check.PART_ETAG_MD5: "a part's ETag is not its MD5",
    Check.PART_COPY_RANGE: "a range of an object is not copied rightly into a part",
    Check.PART_COPY_WHOLE: "an object is not copied rightly into a part",
    Check.DELETE_IF_MATCH: "a DELETE with If-Match does not hold to its condition",
}

_TIER_SHA256 = frozenset(
    {
        Check.PART_ACCEPTED,
        Check.PART_SHA256,
        Check.PART_LENGTH,
        Check.PART_SIGNATURE,
        Check.PART_EXPIRY,
        # Without this one a holder of a signed part could fill it with any object of the bucket.
        Check.PART_COPY_SOURCE,
        # Without this one nobody can compare what the store holds before it is published.
        Check.LIST_PARTS_PAGES,
    }
)
_TIER_MD5 = frozenset(
    {
        Check.PART_ACCEPTED,
        Check.PART_MD5,
        Check.PART_LENGTH,
        Check.PART_SIGNATURE,
        Check.PART_EXPIRY,
        Check.PART_COPY_SOURCE_MD5,
        Check.LIST_PARTS_PAGES,
        # Without this one the parts that the store holds cannot be compared with what was declared.
        Check.PART_ETAG_MD5,
    }
)
# A PUT that commits signs no MD5.
_COMMIT_BY_PUT = _TIER_SHA256 | {check for check in Check if check.startswith("put_")} - {Check.PUT_MD5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One canary's answer. `seen`: what happened, in plain words, without URLs or credentials."""

    check: Check
    verdict: Verdict
    seen: str

    def __str__(self) -> str:
        if self.verdict == "passed":
            return f"{self.check}: passed ({self.seen})"
        words = WHEN_FAILED[self.check] if self.verdict == "failed" else "could not be found out"
        return f"{words} ({self.seen}; probe row {self.check})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """Every row once, and what follows. A row that is inconclusive grants nothing, and is no verdict either: whoever
    needs it asks again.
    """

    rows: tuple[Row, ...]
    probed_at: datetime

    def __post_init__(self) -> None:
        if sorted(row.check for row in self.rows) != sorted(Check):
            raise ValueError("a report has every row exactly once")

    @classmethod
    def assumed_strict(cls, now: datetime) -> Self:
        """A report of a store that passes everything; for tests that have no store to probe."""
        rows = tuple(Row(check=check, verdict="passed", seen="assumed") for check in Check)
        return cls(rows=rows, probed_at=now)

    def passed(self, *checks: Check) -> bool:
        return self._all(checks)

    def _all(self, checks: Iterable[Check]) -> bool:
        good = {row.check for row in self.rows if row.verdict == "passed"}
        return good.issuperset(checks)

    @property
    def tier(self) -> Tier:
        """What the store enforces on every part. `md5`: MD5 and not SHA-256."""
        if self._all(_TIER_SHA256):
            return "sha256"
        return "md5" if self._all(_TIER_MD5) else "none"

    @property
    def commit_by_put(self) -> bool:
        """Whether one signed PutObject may be the commit: the tier, and every PutObject row."""
        return self._all(_COMMIT_BY_PUT)

    @property
    def conditional_put_absent(self) -> bool:
        return self._all([Check.PUT_IF_ABSENT])

    @property
    def conditional_put_match(self) -> bool:
        return self._all([Check.PUT_IF_MATCH])

    @property
    def conditional_complete(self) -> bool:
        """Whether a multipart upload may have a precondition: its Complete excludes other Completes and PUTs."""
        return self._all([Check.COMPLETE_CONDITION, Check.COMPLETE_AGAINST_PUT])

    @property
    def conditional_delete(self) -> bool:
        return self._all([Check.DELETE_IF_MATCH])

    @property
    def part_copy(self) -> bool:
        """Whether the store copies parts rightly, ranges and whole objects."""
        return self._all([Check.PART_COPY_RANGE, Check.PART_COPY_WHOLE])

    @property
    def complete_sha256(self) -> bool:
        """Whether Complete takes the parts' SHA-256."""
        return self._all([Check.COMPLETE_SHA256])

    @property
    def conclusive(self) -> bool:
        """Whether the tier is an answer, and conditional PUTs are, on which records rest. Where not, probe again."""
        conditional = (Check.PUT_IF_ABSENT, Check.PUT_IF_MATCH)
        verdicts = [row.verdict for row in self.rows if row.check in conditional]
        return self.tier_conclusive and "inconclusive" not in verdicts

    @property
    def tier_conclusive(self) -> bool:
        """Whether `tier` is an answer; where not, a row that it or a better one needs could not be found out, and none
        that the same tier needs failed.
        """
        if self._open(_TIER_SHA256):
            return False
        return self.tier == "sha256" or not self._open(_TIER_MD5)

    def _open(self, needed: Iterable[Check]) -> bool:
        verdicts = [row.verdict for row in self.rows if row.check in needed]
        return "inconclusive" in verdicts and "failed" not in verdicts

    @property
    def findings(self) -> tuple[str, ...]:
        """What did not pass, in plain words."""
        return tuple(str(row) for row in self.rows if row.verdict != "passed")

    def to_json(self) -> str:
        """For people and other programs. What follows from the rows is in it for reading only."""
        value = {
            "format": FORMAT,
            "probed_at": self.probed_at.astimezone(UTC).isoformat(),
            "tier": self.tier,
            "capabilities": {
                "commit_by_put": self.commit_by_put,
                "conditional_put_absent": self.conditional_put_absent,
                "conditional_put_match": self.conditional_put_match,
                "conditional_complete": self.conditional_complete,
                "complete_sha256": self.complete_sha256,
                "conditional_delete": self.conditional_delete,
                "part_copy": self.part_copy,
            },
            "findings": list(self.findings),
            "rows": [{"check": row.check, "verdict": row.verdict, "seen": row.seen} for row in self.rows],
        }
        return json.dumps(value, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises `ValueError` for anything that `to_json` did not write, another format included."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']} is not {FORMAT}")
            rows = tuple(
                Row(check=Check(row["check"]), verdict=_verdict(row["verdict"]), seen=str(row["seen"]))
                for row in value["rows"]
            )
            return cls(rows=rows, probed_at=datetime.fromisoformat(value["probed_at"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a probe report: {error!r}") from None


def _verdict(text: object) -> Verdict:
    match text:
        case "passed" | "failed" | "inconclusive":
            return text
        case _:
            raise ValueError(f"no verdict: {text!r}")
