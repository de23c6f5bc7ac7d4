"""What is seen is the newest that was shown, whoever showed it, and belongs to whom its label says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from putgate_operator.handlers import Watching
from putgate_operator.kinds import CONFIG_MAP, LABEL, POD, REPLICA_SET, UPLOAD_BUCKET
from putgate_operator.seen import Place, Seen


def labelled(name: str, version: int, *, uid: str = "", owner: str | None = "media") -> dict[str, Any]:
    uid = uid or f"uid of {name}"
    labels = {} if owner is None else {LABEL: owner}
    return {
        "metadata": {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    }


def test_an_older_state_changes_nothing_and_another_object_of_the_name_does() -> None:
    seen = Seen()
    assert seen.put(CONFIG_MAP, labelled("a", 5)) == ("ns", "media")
    seen.put(CONFIG_MAP, labelled("a", 3))
    assert seen.children(("ns", "media"))["ConfigMap", "a"]["metadata"]["resourceVersion"] == "5"
    seen.put(CONFIG_MAP, labelled("a", 4, uid="one before"))
    assert seen.children(("ns", "media"))["ConfigMap", "a"]["metadata"]["uid"] == "uid of a"
    seen.put(CONFIG_MAP, labelled("a", 6, uid="v"))
    assert seen.children(("ns", "media"))["ConfigMap", "a"]["metadata"]["uid"] == "v"
    seen.remove(CONFIG_MAP, labelled("a", 9))
    assert ("ConfigMap", "a") in seen.children(("ns", "media"))
    seen.remove(CONFIG_MAP, labelled("a", 9, uid="v"))
    assert seen.children(("ns", "media")) == {}


def test_a_late_answer_does_not_bring_back_what_was_deleted() -> None:
    seen = Seen()
    seen.remove(CONFIG_MAP, labelled("a", 7))
    seen.put(CONFIG_MAP, labelled("a", 5))
    assert seen.children(("ns", "media")) == {}
    seen.put(CONFIG_MAP, labelled("a", 9, uid="another"))
    assert ("ConfigMap", "a") in seen.children(("ns", "media"))


def test_what_had_lost_its_label_comes_back_with_it() -> None:
    seen = Seen()
    seen.put(CONFIG_MAP, labelled("a", 5))
    # A watch of labelled objects says of one that loses its label that it is deleted.
    seen.remove(CONFIG_MAP, labelled("a", 7, owner=None))
    assert seen.children(("ns", "media")) == {}
    seen.put(CONFIG_MAP, labelled("a", 6))
    assert seen.children(("ns", "media")) == {}
    seen.put(CONFIG_MAP, labelled("a", 8))
    assert ("ConfigMap", "a") in seen.children(("ns", "media"))


def test_what_a_list_has_missed_comes_back_with_the_next() -> None:
    seen = Seen()
    seen.put(CONFIG_MAP, labelled("a", 5))
    seen.replace_all(CONFIG_MAP, None, [], "9")
    seen.put(CONFIG_MAP, labelled("a", 7))  # an answer from before
    assert seen.children(("ns", "media")) == {}
    seen.replace_all(CONFIG_MAP, None, [labelled("a", 10)], "11")
    assert ("ConfigMap", "a") in seen.children(("ns", "media"))


def test_a_changed_label_moves_a_child() -> None:
    seen = Seen()
    seen.put(POD, labelled("p", 1))
    seen.put(POD, labelled("p", 2, owner="other"))
    assert seen.children(("ns", "media")) == {}
    assert list(seen.children(("ns", "other"))) == [("Pod", "p")]


def test_a_list_tells_what_watches_have_missed() -> None:
    seen = Seen()
    for name in ("kept", "gone", "changed"):
        seen.put(CONFIG_MAP, labelled(name, 1, owner=name))
    seen.put(CONFIG_MAP, labelled("born since", 50, owner="young"))
    listed = [
        labelled("kept", 1, owner="kept"),
        labelled("changed", 7, owner="changed"),
        labelled("new", 8, owner="new"),
    ]
    assert seen.replace_all(CONFIG_MAP, None, listed, "40") == {("ns", name) for name in ("gone", "changed", "new")}
    assert {raw["metadata"]["name"] for raw in seen.all(CONFIG_MAP)} == {"kept", "changed", "new", "born since"}


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    seen = Seen()
    seen.put(CONFIG_MAP, labelled("a", 1))
    assert seen.replace_all(CONFIG_MAP, "elsewhere", [], "9") == set()
    assert seen.replace_all(CONFIG_MAP, "ns", [], "9") == {("ns", "media")}


def test_who_holds_a_name_is_a_child_to_be_judged_until_it_is_gone() -> None:
    seen = Seen()
    foreign = labelled("a", 1, owner=None)
    seen.hold(("ns", "media"), CONFIG_MAP, "a", foreign)
    assert seen.children(("ns", "media")) == {("ConfigMap", "a"): foreign}
    seen.hold(("ns", "media"), CONFIG_MAP, "a", None)
    seen.hold(("ns", "media"), CONFIG_MAP, "never held", None)
    assert seen.children(("ns", "media")) == {}


@given(st.permutations(range(1, 8)), st.lists(st.integers(0, 6), max_size=4))
def test_events_in_any_order_and_twice_end_in_the_same(order: list[int], repeated: list[int]) -> None:
    seen = Seen()
    for version in [*order, *(order[index] for index in repeated)]:
        seen.put(CONFIG_MAP, labelled("a", version))
    [(_, last)] = seen.children(("ns", "media")).items()
    assert last["metadata"]["resourceVersion"] == "7"


def bucket(generation: int, version: int, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": "media",
            "uid": "u",
            "generation": generation,
            "resourceVersion": str(version),
            **metadata,
        },
        "status": {"written": version},
    }


def test_an_own_status_write_is_no_reason_to_look_again() -> None:
    told: list[Place] = []
    watching = Watching(Seen(), told.append, namespaces=True)
    watching.note(UPLOAD_BUCKET, "ADDED", bucket(1, 1))
    assert told == [("ns", "media")]
    watching.note(UPLOAD_BUCKET, "MODIFIED", bucket(1, 2))
    assert len(told) == 1
    watching.note(UPLOAD_BUCKET, "MODIFIED", bucket(2, 3))
    watching.note(UPLOAD_BUCKET, "MODIFIED", bucket(2, 4, annotations={"putgate.io/paused": "true"}))
    watching.note(UPLOAD_BUCKET, "MODIFIED", bucket(2, 5, deletionTimestamp="now"))
    watching.note(UPLOAD_BUCKET, "DELETED", bucket(2, 6))
    assert len(told) == 5


def test_the_echo_of_an_own_write_is_no_reason_to_look_again() -> None:
    told: list[Place] = []
    seen = Seen()
    watching = Watching(seen, told.append, namespaces=True)
    seen.put(CONFIG_MAP, labelled("a", 5))
    watching.note(CONFIG_MAP, "ADDED", labelled("a", 5))
    watching.note(CONFIG_MAP, "MODIFIED", labelled("a", 4))
    assert told == []
    watching.note(CONFIG_MAP, "MODIFIED", labelled("a", 6))
    watching.note(CONFIG_MAP, "MODIFIED", labelled("a", 7, uid="another of the name"))
    watching.note(CONFIG_MAP, "DELETED", labelled("a", 8, uid="another of the name"))
    assert told == [("ns", "media")] * 3


def test_changes_are_taken_once() -> None:
    seen = Seen()
    seen.put(CONFIG_MAP, labelled("a", 1))
    seen.put(UPLOAD_BUCKET, bucket(1, 1))
    assert seen.take_changed() == {("ns", "media")}
    assert seen.take_changed() == set()
    seen.put(CONFIG_MAP, labelled("a", 1))
    assert seen.take_changed() == set()
    seen.put(CONFIG_MAP, labelled("a", 2, owner="other"))
    assert seen.take_changed() == {("ns", "media"), ("ns", "other")}
    seen.remove(CONFIG_MAP, labelled("a", 3))
    assert seen.take_changed() == {("ns", "other")}


def test_only_what_is_asked_for_is_kept_of_pods_and_replica_sets() -> None:
    seen = Seen()
    spec = {"volumes": [{"name": "v"}], "serviceAccountName": "s", "hostNetwork": True}
    full = {**spec, "containers": [{"name": "api"}]}
    managed = labelled("p", 1)
    managed["metadata"]["managedFields"] = [{"manager": "me"}]
    seen.put(POD, {**managed, "spec": full})
    seen.put(REPLICA_SET, {**labelled("r", 1), "spec": {"replicas": 2, "template": {"spec": full}}})
    seen.put(CONFIG_MAP, {**labelled("c", 1), "data": {"key": "value"}})
    kept = seen.children(("ns", "media"))
    assert kept["Pod", "p"] == {**labelled("p", 1), "spec": spec}
    assert kept["ReplicaSet", "r"]["spec"] == {"template": {"spec": spec}}
    assert kept["ConfigMap", "c"]["data"] == {"key": "value"}
