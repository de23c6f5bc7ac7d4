"""May this caller do this? The one place that decides; everything that is not granted is denied.

Prefixes match whole segments, because they are empty or end in `/`: `team-a/` never matches `team-ab/x`. What is
decided for a call has its line in the audit log; what only shapes an answer (`may`) has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from putgate_api.auth import audit
from putgate_api.auth.audit import Refusal
from putgate_api.auth.caller import Caller, Rule, Verb
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """`problem`: what to answer; it names the verb and the name, and of the rules at most a size."""

    reason: Refusal
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """`rule`: the name of the first rule that grants it."""

    rule: str


Decision = Denied | Granted


def decide(caller: Caller, verb: Verb, name: Name, size: int | None = None) -> Decision:
    """Whether one rule grants `verb` on `name` (and, for uploads, `size` bytes)."""
    encoded = name.encoded
    granting = [rule for rule in caller.rules if verb in rule.verbs and _covers(rule, encoded)]
    if not granting:
        return _not_granted(caller, verb, str(name))
    fitting = [rule for rule in granting if size is None or _fits(rule, size)]
    if not fitting:
        most = max(rule.max_object_size or 0 for rule in granting)
        detail = f"{caller.subject} may upload at most {most} bytes as {name}; it has {size}"
        return Denied(reason="too_large", problem=problem("too_large", detail))
    return Granted(rule=fitting[0].name)


def may(caller: Caller, verb: Verb, name: Name) -> bool:
    return isinstance(decide(caller, verb, name), Granted)


def require(caller: Caller, verb: Verb, name: Name, size: int | None = None) -> None:
    """Raises the decision's problem."""
    match decide(caller, verb, name, size):
        case Granted(rule=rule):
            audit.allowed(caller.subject, verb, str(name), rule)
        case Denied(reason=reason, problem=answer):
            audit.denied(caller.subject, verb, str(name), reason)
            raise answer


def refusal(caller: Caller, verb: Verb, name: Name, reason: Refusal, detail: str) -> Problem:
    """The problem to raise where a use case itself must refuse; it has its line in the audit log."""
    audit.denied(caller.subject, verb, str(name), reason)
    return problem("forbidden", detail)


def listable(caller: Caller, prefix: str) -> list[str]:
    """The (encoded) prefixes below which the caller may list, cut to `prefix`; sorted, none within another.

    Where a rule's prefix is longer than `prefix`, it stands as it is; where it is shorter, `prefix` stands.
    """
    scopes = {granted if granted.startswith(prefix) else prefix for _, granted in _lists(caller, prefix)}
    kept: list[str] = []
    for scope in sorted(scopes):
        if not kept or not scope.startswith(kept[-1]):
            kept.append(scope)
    return kept


def require_listable(caller: Caller, prefix: str) -> list[str]:
    """As `listable`, where nothing is `forbidden`."""
    scopes = listable(caller, prefix)
    if not scopes:
        refused = _not_granted(caller, "list", prefix or "this bucket")
        audit.denied(caller.subject, "list", prefix, refused.reason)
        raise refused.problem
    rules = dict.fromkeys(rule.name for rule, _ in _lists(caller, prefix))
    audit.allowed(caller.subject, "list", prefix, ", ".join(rules))
    return scopes


def _lists(caller: Caller, prefix: str) -> Iterator[tuple[Rule, str]]:
    for rule in caller.rules:
        if "list" in rule.verbs:
            for granted in rule.prefixes:
                if granted.startswith(prefix) or prefix.startswith(granted):
                    yield rule, granted


def _not_granted(caller: Caller, verb: Verb, what: str) -> Denied:
    if not caller.rules:
        detail = f"{caller.subject} may not {verb} {what}: no access rule is about this caller"
        return Denied(reason="no_rule", problem=problem("forbidden", detail))
    return Denied(reason="not_granted", problem=problem("forbidden", f"{caller.subject} may not {verb} {what}"))


def _covers(rule: Rule, encoded: str) -> bool:
    return any(encoded.startswith(prefix) for prefix in rule.prefixes)


def _fits(rule: Rule, size: int) -> bool:
    return rule.max_object_size is None or size <= rule.max_object_size
