"""May this caller do this? The one place that decides; everything that is not granted is denied.

Prefixes match whole segments, because they are empty or end in `/`: `team-a/` never matches `team-ab/x`.
"""

from __future__ import annotations

from dataclasses import dataclass

from putgate_api.auth.caller import Caller, Rule, Verb
from putgate_protocol.names import Name
from putgate_protocol.problems import Problem, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Allowed, or the problem to answer, which names the verb and the name and nothing of the rules."""

    denied: Problem | None = None

    @property
    def allowed(self) -> bool:
        return self.denied is None


def decide(caller: Caller, verb: Verb, name: Name, size: int | None = None) -> Decision:
    """Whether one rule grants `verb` on `name` (and, for uploads, `size` bytes)."""
    encoded = name.encoded
    granting = [rule for rule in caller.rules if verb in rule.verbs and _covers(rule, encoded)]
    if not granting:
        return Decision(denied=problem("forbidden", f"{caller.subject} may not {verb} {name}"))
    if size is not None and not any(_fits(rule, size) for rule in granting):
        return Decision(denied=problem("too_large", f"{caller.subject} may not upload {size} bytes as {name}"))
    return Decision()


def may(caller: Caller, verb: Verb, name: Name) -> bool:
    return decide(caller, verb, name).allowed


def require(caller: Caller, verb: Verb, name: Name, size: int | None = None) -> None:
    """Raises the decision's problem."""
    if (denied := decide(caller, verb, name, size).denied) is not None:
        raise denied


def listable(caller: Caller, prefix: str) -> list[str]:
    """The (encoded) prefixes below which the caller may list, cut to `prefix`; sorted, none within another.

    Where a rule's prefix is longer than `prefix`, it stands as it is; where it is shorter, `prefix` stands.
    """
    scopes = {
        granted if granted.startswith(prefix) else prefix
        for rule in caller.rules
        if "list" in rule.verbs
        for granted in rule.prefixes
        if granted.startswith(prefix) or prefix.startswith(granted)
    }
    kept: list[str] = []
    for scope in sorted(scopes):
        if not kept or not scope.startswith(kept[-1]):
            kept.append(scope)
    return kept


def _covers(rule: Rule, encoded: str) -> bool:
    return any(encoded.startswith(prefix) for prefix in rule.prefixes)


def _fits(rule: Rule, size: int) -> bool:
    return rule.max_object_size is None or size <= rule.max_object_size
