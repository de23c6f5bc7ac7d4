"""Access rules: whom they are about, what templates become, and that nothing half-understood grants anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putgate_api.auth.access import may
from putgate_api.auth.caller import VERBS, Caller, Identity, Rule
from putgate_api.auth.rules import Prefix, Rules, RulesWatch, parse_rules
from putgate_protocol.names import Name
from putgate_protocol.problems import NameProblem, Problem
from putgate_protocol.settings.rules import MAX_RULES, AccessRule, RulesFile, rules_hash


def rule(name: str = "r", **changes: Any) -> dict[str, Any]:
    made = {
        "name": name,
        "subjects": [{"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}],
        "verbs": ["upload"],
        "prefixes": ["team-a/"],
    }
    return made | changes


def compiled(*rules: dict[str, Any]) -> Rules:
    return parse_rules(written(*rules))


def written(*rules: dict[str, Any]) -> str:
    return json.dumps({"hash": rules_hash([AccessRule.model_validate(one) for one in rules]), "rules": list(rules)})


def account(namespace: str = "apps", name: str = "uploader", node: str | None = "node-1") -> Identity:
    return Identity(
        issuer="i",
        subject=f"system:serviceaccount:{namespace}:{name}",
        groups=frozenset({"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"}),
        namespace=namespace,
        service_account=name,
        node=node,
    )


def user(name: str) -> Identity:
    return Identity(issuer="i", subject=name, groups=frozenset({"system:authenticated", "staff"}))


def prefixes(rules: tuple[Rule, ...]) -> list[str]:
    return [prefix for one in rules for prefix in one.prefixes]


@pytest.mark.parametrize(
    ("subject", "identity", "meant"),
    [
        ({"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}, account(), True),
        ({"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}, account("other"), False),
        ({"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}, account(name="other"), False),
        ({"kind": "User", "name": "system:serviceaccount:apps:uploader"}, account(), True),
        ({"kind": "User", "name": "uploader"}, account(), False),
        ({"kind": "User", "name": "alice"}, user("alice"), True),
        ({"kind": "User", "name": "alice"}, user("Alice"), False),
        ({"kind": "Group", "name": "system:serviceaccounts"}, account("any"), True),
        ({"kind": "Group", "name": "system:serviceaccounts"}, user("alice"), False),
        ({"kind": "Group", "name": "system:serviceaccounts:apps"}, account(), True),
        ({"kind": "Group", "name": "system:serviceaccounts:apps"}, account("apps2"), False),
        ({"kind": "Group", "name": "system:authenticated"}, account(), True),
        ({"kind": "Group", "name": "staff"}, user("alice"), True),
        ({"kind": "Group", "name": "alice"}, user("alice"), False),
        ({"kind": "User", "name": "staff"}, user("alice"), False),
    ],
)
def test_subjects_are_matched_as_in_rbac(subject: dict[str, str], identity: Identity, *, meant: bool) -> None:
    rules = compiled(rule(subjects=[{"kind": "User", "name": "nobody"}, subject]))
    assert bool(rules.of(identity)) is meant


def test_rules_that_hold_come_once_each_in_their_order_and_with_what_they_say() -> None:
    both = [
        {"kind": "Group", "name": "system:authenticated"},
        {"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"},
    ]
    rules = compiled(
        rule("second", subjects=both, verbs=["list"], prefixes=["b/", ""]),
        rule("other", subjects=[{"kind": "User", "name": "else"}]),
        rule("first", max_object_size=10),
    )
    assert rules.of(account()) == (
        Rule(name="second", verbs=frozenset({"list"}), prefixes=("b/", "")),
        Rule(name="first", verbs=frozenset({"upload"}), prefixes=("team-a/",), max_object_size=10),
    )


@pytest.mark.parametrize(
    ("prefix", "identity", "becomes"),
    [
        ("{namespace}/", account(), ["apps/"]),
        ("x/{namespace}/{serviceAccount}/", account(), ["x/apps/uploader/"]),
        ("logs-{node}/x/", account(node="n1.example.org"), ["logs-n1.example.org/x/"]),
        ("{node}/", account(node=None), []),
        ("{user}/", account(), []),
        ("{user}/", user("alice@example.org"), ["alice@example.org/"]),
        ("{namespace}/", user("alice"), []),
        ("{user}/", user("."), []),
        ("{user}/", user(".."), []),
        (".{user}/", user("."), []),
        ("x{user}/", user("."), []),
        ("x{user}/", user(".."), []),
        (".{user}/", user("putgate"), []),
        ("a/{user}/", user("x/../y"), []),
        ("{user}/", user("x" * 128), ["x" * 128 + "/"]),
        ("{user}/", user("x" * 129), []),
        ("{user}/", user("é"), []),
        ("{user}/", user("a%2fb"), []),
        ("{user}/", user("x\n"), []),
        ("{user}/", user("{namespace}"), []),
    ],
)
def test_templates_become_one_plain_segment_or_match_nothing(
    prefix: str, identity: Identity, becomes: list[str]
) -> None:
    rules = compiled(rule(subjects=[{"kind": "Group", "name": "system:authenticated"}], prefixes=[prefix]))
    assert prefixes(rules.of(identity)) == becomes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prefixes": ["no-slash"]}, "a prefix is empty or ends in '/'"),
        ({"prefixes": ["{Namespace}/"]}, "is not one of {namespace}"),
        ({"prefixes": ["{}/"]}, "is not one of"),
        ({"prefixes": ["{namespace/"]}, "a brace that belongs to no template"),
        ({"prefixes": ["{{namespace}}/"]}, "a brace that belongs to no template"),
        ({"prefixes": ["{namespace}-{serviceAccount}/"]}, "two templates in one segment"),
        ({"prefixes": ["a//b/"]}, "empty segment"),
        ({"prefixes": ["../"]}, "segment '..'"),
        ({"prefixes": [".putgate/"]}, "keeps for itself"),
        ({"prefixes": ["a%2f/"]}, "no control character"),
        ({"prefixes": []}, "prefixes"),
        ({"verbs": ["write"]}, "verbs"),
        ({"verbs": []}, "verbs"),
        ({"subjects": [{"kind": "ServiceAccount", "name": "x"}]}, "has a namespace"),
        ({"subjects": [{"kind": "User", "name": "x", "namespace": "y"}]}, "have none"),
        ({"subjects": []}, "subjects"),
        ({"expires": "never"}, "unknown key"),
    ],
)
def test_what_is_not_understood_makes_the_whole_file_invalid(change: dict[str, Any], says: str) -> None:
    text = json.dumps({"hash": "0" * 16, "rules": [rule("good"), rule("bad", **change)]})
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_rules(text)


def test_names_are_unique_and_there_are_not_too_many() -> None:
    with pytest.raises(ValueError, match="same name"):
        parse_rules(written(rule("a"), rule("a")))
    with pytest.raises(ValueError, match="rules"):
        parse_rules(json.dumps({"hash": "0" * 16, "rules": [rule(f"r{n}") for n in range(MAX_RULES + 1)]}))


SEGMENT = st.text(alphabet="ab.-{}@/%_é", max_size=12)
ATTRIBUTE = st.one_of(st.none(), SEGMENT, st.sampled_from(["a", "b", "..", ".", "a/b", "team-a"]))
PIECE = st.sampled_from(["a", "b", "{namespace}", "{serviceAccount}", "{user}", "{node}", "x-{node}", "{user}.y"])
TEMPLATE = st.lists(PIECE, max_size=4).map(lambda pieces: "".join(f"{piece}/" for piece in pieces))
IDENTITY = st.builds(
    Identity,
    issuer=st.just("i"),
    subject=SEGMENT,
    namespace=ATTRIBUTE,
    service_account=ATTRIBUTE,
    node=ATTRIBUTE,
)


@given(template=TEMPLATE, identity=IDENTITY)
def test_a_filled_prefix_has_the_segments_of_its_template_and_no_others(template: str, identity: Identity) -> None:
    filled = Prefix.parse(template).filled(identity)
    if filled is None:
        assert "{" in template
        return
    assert filled == "" or filled.endswith("/")
    assert filled.count("/") == template.count("/")
    for found, meant in zip(filled.split("/"), template.split("/"), strict=True):
        pattern = re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9._@-]{1,128}", re.escape(meant))
        assert re.fullmatch(pattern, found)
        assert found not in {".", ".."}
    if filled:
        Name.from_text(filled + "x")


@given(template=TEMPLATE, one=IDENTITY, other=IDENTITY, name=st.lists(SEGMENT, min_size=1, max_size=5).map("/".join))
def test_whoever_differs_in_all_attributes_never_reaches_the_others_place(
    template: str, one: Identity, other: Identity, name: str
) -> None:
    """A template in the prefix keeps callers apart, whatever names they have."""
    fields = re.findall(r"\{(\w+)\}", template)
    values = [(getattr(one, _FIELD[f]), getattr(other, _FIELD[f])) for f in fields]
    if not values or any(mine == theirs for mine, theirs in values):
        return
    try:
        parsed = Name.from_text(name)
    except NameProblem:
        return
    prefix = Prefix.parse(template)

    def reaches(identity: Identity) -> bool:
        filled = prefix.filled(identity)
        rules = () if filled is None else (Rule(verbs=frozenset(VERBS), prefixes=(filled,)),)
        return may(Caller(owner="o", subject="s", rules=rules), "upload", parsed)

    assert not (reaches(one) and reaches(other))


_FIELD = {"namespace": "namespace", "serviceAccount": "service_account", "user": "subject", "node": "node"}


@given(st.text(alphabet="{}namespoud/a.", max_size=30))
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    try:
        prefix = Prefix.parse(text)
    except ValueError:
        return
    assert "".join(f"{{{p}}}" if n % 2 else p for n, p in enumerate(prefix.pieces)) == text


# --- the file ---


def put(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_change_counts_at_once_and_an_invalid_one_takes_all_rights_away(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    watch = RulesWatch(path)
    assert (watch.hash, watch.condition().reason) == (None, "RulesInvalid")
    assert watch.condition().user_error is False
    put(path, written(rule(prefixes=["a/"])))
    assert prefixes(watch.current().of(account())) == ["a/"]
    before = watch.hash
    put(path, written(rule(prefixes=["b/"])))
    assert prefixes(watch.current().of(account())) == ["b/"]
    assert watch.hash not in {None, before}
    assert watch.condition().status == "True"
    put(path, written(rule()).replace("team-a/", "{nonsense}/"))
    assert watch.hash is None
    condition = watch.condition()
    assert (condition.status, condition.reason, condition.user_error) == ("False", "RulesInvalid", True)
    assert "rule r" in condition.message
    with pytest.raises(Problem) as caught:
        watch.current()
    assert (caught.value.code, caught.value.retry_after) == ("not_ready", 5)
    path.unlink()
    with pytest.raises(Problem):
        watch.current()
    put(path, written(rule(prefixes=["c/"])))
    assert prefixes(watch.current().of(account())) == ["c/"]
    path.rename(tmp_path / "aside")
    assert watch.hash is None
    (tmp_path / "aside").rename(path)
    assert prefixes(watch.current().of(account())) == ["c/"]


def test_what_the_operator_writes_is_what_is_read(tmp_path: Path) -> None:
    rules = [AccessRule.model_validate(rule(max_object_size="1Gi"))]
    file = RulesFile(hash=rules_hash(rules), rules=rules)
    path = tmp_path / "rules.yaml"
    path.write_text(file.model_dump_json())
    watch = RulesWatch(path)
    assert watch.hash == file.hash
    assert watch.current().of(account())[0].max_object_size == 2**30
