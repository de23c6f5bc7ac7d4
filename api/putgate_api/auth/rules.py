"""The file of access rules, compiled when it is read: who a rule is about, and below which prefixes.

Everything that cannot be understood makes the whole file invalid, and while it is, nobody gets in by it: the rules of
before may grant what was just taken away. A prefix may name attributes of the caller, `{namespace}`,
`{serviceAccount}`, `{user}`, `{node}`; one whose attribute is absent, or could be anything but one plain segment,
matches nothing. That holds for the `{user}` of a ServiceAccount, whose name has colons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import assert_never

import structlog

from putgate_api.auth.caller import Identity, Rule
from putgate_api.reloading import Reloading, Unreadable
from putgate_protocol.names import parse_prefix
from putgate_protocol.problems import problem
from putgate_protocol.report import ReportedCondition
from putgate_protocol.settings.load import SettingsError, load
from putgate_protocol.settings.rules import TEMPLATES, AccessRule, RulesFile, Subject

log = structlog.get_logger("putgate.api")

CALLERS_KEPT = 256
"""Callers whose rules are kept ready; past that they are worked out again at each call, which costs little."""

_VALUE = re.compile(r"[A-Za-z0-9._@-]{1,128}")
_FIELD = re.compile(r"\{([^{}]*)\}")
_STAND_IN = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A prefix with places to fill in. Plain text and names of attributes take turns, text first."""

    pieces: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """Raises `ValueError`."""
        pieces = _FIELD.split(text)
        for field in pieces[1::2]:
            if field not in TEMPLATES:
                known = ", ".join(f"{{{one}}}" for one in TEMPLATES)
                raise ValueError(f"prefix {text!r}: {{{field}}} is not one of {known}")
        if any(brace in piece for piece in pieces[::2] for brace in "{}"):
            raise ValueError(f"prefix {text!r}: a brace that belongs to no template")
        if any(segment.count("{") > 1 for segment in text.split("/")):
            # {namespace}-{serviceAccount} would be a-b-c for a-b and c as well as for a and b-c.
            raise ValueError(f"prefix {text!r}: two templates in one segment could make one name of two callers")
        try:
            parse_prefix(_FIELD.sub(_STAND_IN, text))
        except ValueError as error:
            raise ValueError(f"prefix {text!r}: {error}") from None
        return cls(pieces=tuple(pieces))

    def filled(self, identity: Identity) -> str | None:
        """The prefix for this caller, or None where it matches nothing."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        filled = list(self.pieces)
        for at in range(1, len(filled), 2):
            value = _attribute(identity, filled[at])
            if value is None or value in {".", ".."} or not _VALUE.fullmatch(value):
                return None
            filled[at] = value
        try:
            return parse_prefix("".join(filled))
        except ValueError:
            # Such as `.{user}` with a user `putgate`.
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    rule: Rule
    prefixes: tuple[Prefix, ...]


class Rules:
    """Compiled rules; `of` gives those that hold for a caller. Raises `ValueError`, naming the rule."""

    def __init__(self, file: RulesFile) -> None:
        self.hash = file.hash
        self.count = len(file.rules)
        if len({rule.name for rule in file.rules}) < self.count:
            raise ValueError("two rules have the same name")
        self._users: dict[str, list[int]] = {}
        self._groups: dict[str, list[int]] = {}
        self._rules = [self._compile(number, rule) for number, rule in enumerate(file.rules)]
        self.of = lru_cache(maxsize=CALLERS_KEPT)(self._of)

    def _compile(self, number: int, rule: AccessRule) -> _Compiled:
        for subject in rule.subjects:
            kind = self._groups if subject.kind == "Group" else self._users
            kind.setdefault(_subject_name(subject), []).append(number)
        try:
            prefixes = tuple(Prefix.parse(prefix) for prefix in rule.prefixes)
        except ValueError as error:
            raise ValueError(f"rule {rule.name}: {error}") from None
        made = Rule(name=rule.name, verbs=frozenset(rule.verbs), prefixes=(), max_object_size=rule.max_object_size)
        return _Compiled(rule=made, prefixes=prefixes)

    def _of(self, identity: Identity) -> tuple[Rule, ...]:
        numbers = set(self._users.get(identity.subject, ()))
        for group in identity.groups:
            numbers.update(self._groups.get(group, ()))
        return tuple(_for(self._rules[number], identity) for number in sorted(numbers))


class RulesWatch:
    """The rules of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loading = Reloading(path, parse_rules, told=_tell)

    def current(self) -> Rules:
        """Raises `not_ready` while there are no rules that can be used."""
        try:
            return self._loading.current()
        except Unreadable:
            raise problem("not_ready", "the server cannot read its access rules at present", retry_after=5) from None

    @property
    def hash(self) -> str | None:
        """Of the rules that hold now; None while there are none."""
        try:
            return self._loading.current().hash
        except Unreadable:
            return None

    def condition(self) -> ReportedCondition:
        try:
            rules = self._loading.current()
        except Unreadable as error:
            return ReportedCondition(
                type="Authentication",
                status="False",
                reason="RulesInvalid",
                message=f"no access rules hold: {error}"[:1024],
                user_error=self._path.exists(),
            )
        return ReportedCondition(
            type="Authentication", status="True", reason="Configured", message=f"{rules.count} access rules hold"
        )


def parse_rules(text: str) -> Rules:
    """Raises `ValueError`."""
    try:
        return Rules(load(RulesFile, text, origin="rules", environment={}, env_prefix=""))
    except SettingsError as error:
        raise ValueError(str(error)) from None


def service_account_user(namespace: str, name: str) -> str:
    """The user name under which Kubernetes knows a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{name}"


def _tell(rules: Rules | None, failure: str) -> None:
    if rules is None:
        log.error("access rules cannot be used, so nobody gets in by them", reason=failure)
    else:
        log.info("access rules read", hash=rules.hash, rules=rules.count)


def _subject_name(subject: Subject) -> str:
    match subject.kind:
        case "ServiceAccount":
            assert subject.namespace is not None
            return service_account_user(subject.namespace, subject.name)
        case "User" | "Group":
            return subject.name
        case _:
            assert_never(subject.kind)


def _attribute(identity: Identity, field: str) -> str | None:
    match field:
        case "namespace":
            return identity.namespace
        case "serviceAccount":
            return identity.service_account
        case "user":
            return identity.subject
        case "node":
            return identity.node
        case _:
            raise AssertionError(f"{field} is no template")


def _for(compiled: _Compiled, identity: Identity) -> Rule:
    filled: Iterable[str | None] = (prefix.filled(identity) for prefix in compiled.prefixes)
    return Rule(
        name=compiled.rule.name,
        verbs=compiled.rule.verbs,
        prefixes=tuple(prefix for prefix in filled if prefix is not None),
        max_object_size=compiled.rule.max_object_size,
    )
