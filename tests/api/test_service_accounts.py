"""ServiceAccounts: every token that must not pass, over real HTTP against a running API; and who passes, as whom."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jws
from joserfc.jwk import OctKey

from putgate_api.auth.authenticate import NotAuthenticated
from putgate_api.auth.caller import owner_id
from putgate_api.auth.claims import LEEWAY, Expected, judge
from tests.api.calls import Calls
from tests.api.cluster import AUDIENCE, ISSUER, Cluster, claims, cluster_at, ec_key, rsa_key
from tests.api.waiting import until
from tests.servers.api import ApiProcess
from tests.servers.seaweedfs import SeaweedFS

MINE = {
    "name": "uploaders",
    "subjects": [{"kind": "ServiceAccount", "name": "uploader", "namespace": "apps"}],
    "verbs": ["upload", "download", "list", "delete"],
    "prefixes": ["{namespace}/{serviceAccount}/", "nodes/{node}/", "users/{user}/"],
}


def api_in(cluster: Cluster, folder: Path, store: SeaweedFS, prefix: str) -> ApiProcess:
    api = ApiProcess(folder, store, prefix=prefix)
    api.settings["auth"].update(cluster.settings())
    return api


@pytest.fixture(scope="module", name="cluster")
def a_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_at(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.write_rules(MINE)
        yield cluster


@pytest.fixture(scope="module", name="running")
def a_running_api(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, seaweedfs: SeaweedFS
) -> Iterator[ApiProcess]:
    api = api_in(cluster, tmp_path_factory.mktemp("api"), seaweedfs, prefix=f"sa-{time.time_ns()}/").start_probed()
    yield api
    api.kill()


async def part_limit(http: aiohttp.ClientSession, api: ApiProcess, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(f"{api.url}/object/part_limit", headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_when_the_keys_were_read_is_shown(
    http: aiohttp.ClientSession, running: ApiProcess, cluster: Cluster
) -> None:
    await part_limit(http, running, cluster.token())
    async with http.get(f"{running.admin_url}/metrics") as answer:
        text = await answer.text()
    found = re.search(r"^putgate_api_token_keys_read_timestamp_seconds (\S+)$", text, re.MULTILINE)
    assert found is not None
    assert 0 <= time.time() - float(found[1]) < 3600


async def test_a_service_account_does_what_its_rules_say(
    http: aiohttp.ClientSession, running: ApiProcess, cluster: Cluster
) -> None:
    calls = Calls(http, running.url, cluster.token())
    await calls.upload("apps/uploader/report", b"content")
    await calls.upload("nodes/node-1/x", b"content")
    assert await calls.download("apps/uploader/report") == b"content"
    for name in ("apps/other/x", "apps/uploader-2/x", "nodes/node-2/x", "users/system:serviceaccount:apps:uploader/x"):
        status, problem = await calls.initiate(name, b"x")
        assert (status, problem["code"]) == (403, "forbidden")
        assert problem["detail"] == f"system:serviceaccount:apps:uploader may not upload {name}"


async def test_a_caller_without_rules_is_told_so(
    http: aiohttp.ClientSession, running: ApiProcess, cluster: Cluster
) -> None:
    calls = Calls(http, running.url, cluster.token(name="stranger"))
    status, problem = await calls.initiate("apps/stranger/x", b"x")
    assert (status, problem["code"]) == (403, "forbidden")
    assert problem["detail"].endswith("may not upload apps/stranger/x: no access rule is about this caller")
    status, problem = await calls.list()
    assert (status, problem["code"]) == (403, "forbidden")
    assert "may not list this bucket: no access rule is about this caller" in problem["detail"]


async def test_tokens_of_the_file_stand_beside(http: aiohttp.ClientSession, running: ApiProcess) -> None:
    assert (await part_limit(http, running, running.token))[0] == 200
    status, problem = await part_limit(http, running, "not-known")
    assert (status, problem["detail"]) == (401, "the token is not known here")


def forged(cluster: Cluster, **header: Any) -> str:
    """Signed with the published key's text as a shared secret, as if the server trusted the header's algorithm."""
    secret = OctKey.import_key(json.dumps(cluster.published[0]).encode())
    head = {"alg": "HS256", "kid": cluster.signing.kid, **header}
    return jws.serialize_compact(head, json.dumps(claims()).encode(), secret, algorithms=["HS256"])


def nameless(cluster: Cluster) -> str:
    """No key id, and the right signature."""
    return jws.serialize_compact({"alg": "RS256"}, json.dumps(claims()).encode(), cluster.signing, algorithms=["RS256"])


def unsigned(cluster: Cluster) -> str:
    head = {"alg": "none", "kid": cluster.signing.kid}
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (head, claims())]
    return ".".join([*parts, ""])


def edited(cluster: Cluster) -> str:
    head, _, signature = cluster.token().split(".")
    other = json.dumps(claims(name="admin")).encode()
    return ".".join([head, base64.urlsafe_b64encode(other).rstrip(b"=").decode(), signature])


def now() -> int:
    return int(time.time())


REFUSED: dict[str, tuple[Callable[[Cluster], str], str]] = {
    "another audience": (lambda c: c.token(aud=["https://kubernetes.default.svc"]), AUDIENCE),
    "the audience as a part": (lambda c: c.token(aud=[AUDIENCE + "/x"]), AUDIENCE),
    "ours and another": (lambda c: c.token(aud=[AUDIENCE, "vault"]), "is for other audiences too"),
    "no audience": (lambda c: c.token(aud=None), AUDIENCE),
    "an empty audience": (lambda c: c.token(aud=[]), AUDIENCE),
    "expired": (lambda c: c.token(iat=now() - 4000, exp=now() - 400), "expired 40"),
    "not valid yet": (lambda c: c.token(nbf=now() + 500), "is a clock wrong?"),
    "made in the future": (lambda c: c.token(iat=now() + 500), "is a clock wrong?"),
    "too long a life": (lambda c: c.token(exp=now() + 86400 + 60), "86400 are the most"),
    "no end": (lambda c: c.token(exp=None), "when it ends"),
    "no beginning": (lambda c: c.token(iat=None), "when it was made"),
    "an end that is text": (lambda c: c.token(exp=str(now() + 100)), "when it ends"),
    "an end that is true": (lambda c: c.token(exp=True), "when it ends"),
    "an end that never is": (lambda c: c.token(exp=float("inf")), "when it ends"),
    "another issuer": (lambda c: c.token(iss="https://evil.test.invalid"), ISSUER),
    "no issuer": (lambda c: c.token(iss=None), "names no key or no issuer"),
    "a user": (lambda c: c.token(sub="alice"), "not a ServiceAccount's"),
    "an odd subject": (lambda c: c.token(sub="system:serviceaccount:a:b:c"), "not a ServiceAccount's"),
    "no subject": (lambda c: c.token(sub=None), "not a ServiceAccount's"),
    "a subject with a line": (lambda c: c.token(sub="system:serviceaccount:apps:uploader\n"), "not a Service"),
    "another key under this id": (lambda c: c.signed(claims(), rsa_key("first")), "signature is wrong"),
    "an elliptic key under this id": (lambda c: c.signed(claims(), ec_key("first")), "signs with RS256 only"),
    "edited": (edited, "signature is wrong"),
    "unsigned": (unsigned, "not signed with one of RS256"),
    "a shared secret": (forged, "not signed with one of RS256"),
    "no key id": (nameless, "names no key or no issuer"),
    "a critical extension": (lambda c: c.signed(claims(), crit=["b64"], b64=True), "extensions"),
    "cut off": (lambda c: c.token().rpartition(".")[0] + ".", "signature is wrong"),
    "no claims": (lambda c: "eyJhbGciOiJSUzI1NiJ9.bm90LWpzb24.AAAA", "no JSON Web Token"),
    "a header that is no JSON": (lambda c: "eyJ___.eyJ9.AAAA", "no JSON Web Token"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_must_not_pass(
    http: aiohttp.ClientSession, running: ApiProcess, cluster: Cluster, what: str
) -> None:
    make, says = REFUSED[what]
    token = make(cluster)
    # Another issuer could be this cluster's new one: that may be asked only every few seconds.
    status, problem = await until(lambda: part_limit(http, running, token), lambda answer: answer[0] != 503)
    assert (status, problem["code"]) == (401, "unauthenticated"), problem
    assert says in problem["detail"]
    log = running.log.read_text()
    for secret in (token, token.split(".")[1], token.split(".")[-1] or token):
        assert secret not in problem["detail"]
        assert secret not in log
    assert (await part_limit(http, running, cluster.token()))[0] == 200


@pytest.mark.slow
async def test_a_key_that_nobody_publishes(http: aiohttp.ClientSession, running: ApiProcess, cluster: Cluster) -> None:
    asked = len(cluster.asked)
    token = cluster.signed(claims(), rsa_key("foreign"))
    answers = [await part_limit(http, running, token) for _ in range(20)]
    # Either just looked for, or to be looked for in a moment; never let in, and the API server is asked once at most.
    assert {status for status, _ in answers} <= {401, 503}
    assert len(cluster.asked) <= asked + 2
    await until(lambda: part_limit(http, running, token), lambda answer: answer[0] == 401)
    assert "key that this cluster does not publish" in (await part_limit(http, running, token))[1]["detail"]


@pytest.mark.slow
async def test_keys_and_rules_change_while_it_runs(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    with cluster_at(tmp_path / "cluster") as cluster:
        first_hash = cluster.write_rules(MINE)
        api = api_in(cluster, tmp_path / "api", seaweedfs, prefix)
        api.start_probed()
        try:
            old = cluster.token()
            calls = Calls(http, api.url, old)
            await calls.upload("apps/uploader/x", b"x")

            # A second key, of another kind, as a rotation begins; both hold.
            cluster.signing = ec_key("second")
            cluster.published.append(cluster.signing.as_dict(private=False))
            fresh = cluster.token()
            await until(lambda: part_limit(http, api, fresh), lambda answer: answer[0] == 200)
            assert (await part_limit(http, api, old))[0] == 200

            # The same ServiceAccount, so the same owner, whatever key has signed.
            assert (await Calls(http, api.url, fresh).initiate("apps/uploader/x", b"x"))[1]["status"] == "exists"

            # A revocation takes effect at the next call.
            other_hash = cluster.write_rules({**MINE, "verbs": ["download"]})
            assert first_hash != other_hash
            status, problem = await calls.initiate("apps/uploader/x", b"x")
            assert (status, problem["code"]) == (403, "forbidden")
            assert (await calls.file("GET", "apps/uploader/x"))[0] == 302
            assert f'"hash": "{other_hash}"' in api.log.read_text()

            # Rules that cannot be used let nobody in; the token file goes on.
            (cluster.folder / "rules" / "rules.yaml").unlink()
            status, problem = await calls.list()
            assert (status, problem["code"], problem["retry_after"]) == (503, "not_ready", 5)
            assert (await Calls(http, api.url, api.token).list())[0] == 200
        finally:
            api.kill()


async def test_without_the_api_server_nobody_is_let_in_until_it_is_there(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    with cluster_at(tmp_path / "cluster") as cluster:
        cluster.write_rules(MINE)
        cluster.refuse = 403
        api = api_in(cluster, tmp_path / "api", seaweedfs, prefix)
        api.start(wait=False)
        try:
            status, problem = await until(
                lambda: part_limit(http, api, cluster.token()), lambda answer: answer[1]["code"] == "not_ready"
            )
            assert status == 503
            assert problem["retry_after"] >= 1
            await until(lambda: authentication(http, api), lambda found: found["reason"] == "JWKSForbidden")
            found = await authentication(http, api)
            assert (found["status"], found["user_error"]) == ("False", True)
            assert "system:service-account-issuer-discovery" in found["message"]
            cluster.refuse = 503
            await until(lambda: authentication(http, api), lambda found: found["reason"] == "JWKSUnreachable")
            cluster.refuse = None
            await until(lambda: part_limit(http, api, cluster.token()), lambda answer: answer[0] == 200)
            assert (await authentication(http, api))["status"] == "True"
            cluster.refuse = 503
            assert (await part_limit(http, api, cluster.token()))[0] == 200
        finally:
            api.kill()


async def authentication(http: aiohttp.ClientSession, api: ApiProcess) -> dict[str, Any]:
    async with http.get(f"{api.admin_url}/report") as answer:
        report = await answer.json()
    [found] = [one for one in report["conditions"] if one["type"] == "Authentication"]
    return dict(found)


# --- claims alone ---

EXPECTED = Expected(issuer=ISSUER, audience=AUDIENCE, max_lifetime=timedelta(hours=1))


def reason_of(now: float, **changes: Any) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        judge(claims(**changes), EXPECTED, now)
    return caught.value.reason


def test_who_a_token_stands_for() -> None:
    at = 1_000_000
    found = judge(claims("apps", "up.loader", iat=at, nbf=at, exp=at + 3600), EXPECTED, at)
    assert found.subject == "system:serviceaccount:apps:up.loader"
    assert (found.namespace, found.service_account, found.node) == ("apps", "up.loader", "node-1")
    assert found.groups == {"system:serviceaccounts", "system:serviceaccounts:apps", "system:authenticated"}
    text = json.dumps([ISSUER, found.subject], separators=(",", ":"))
    assert owner_id(found.issuer, found.subject) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("node", [None, {}, {"uid": "x"}, {"name": 7}, "node-1", ["name"]])
def test_a_token_that_is_bound_to_no_node_names_none(node: Any) -> None:
    made = claims()
    made["kubernetes.io"]["node"] = node
    assert judge(made, EXPECTED, time.time()).node is None
    assert judge({**made, "kubernetes.io": "x"}, EXPECTED, time.time()).node is None


@pytest.mark.parametrize("pod", [None, {}, {"uid": "x"}, {"name": 7}, "pod"])
def test_a_node_is_named_by_a_pods_token_alone(pod: Any) -> None:
    made = claims()
    assert judge(made, EXPECTED, time.time()).node == "node-1"
    made["kubernetes.io"]["pod"] = pod
    assert judge(made, EXPECTED, time.time()).node is None
    del made["kubernetes.io"]["pod"]
    assert judge(made, EXPECTED, time.time()).node is None


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
def test_a_time_beyond_all_numbers_is_none(claim: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        judge({**claims(), claim: 10**400}, EXPECTED, time.time())
    assert caught.value.reason == "lifetime"


def test_times_hold_to_the_second_with_a_little_leeway() -> None:
    at = 1_000_000
    times = {"iat": at, "nbf": at, "exp": at + 3600}
    assert judge(claims(**times), EXPECTED, at - LEEWAY)
    assert reason_of(at - LEEWAY - 1, **times) == "not_yet_valid"
    assert judge(claims(**times), EXPECTED, at + 3600 + LEEWAY - 0.1)
    assert reason_of(at + 3600 + LEEWAY, **times) == "expired"
    assert reason_of(at, **{**times, "exp": at + 3601}) == "lifetime"
    assert judge(claims(**{**times, "nbf": None}), EXPECTED, at)
    assert reason_of(at, **{**times, "nbf": "soon"}) == "lifetime"


def test_an_audience_may_be_text_as_well() -> None:
    assert judge(claims(aud=AUDIENCE), EXPECTED, time.time())
    assert reason_of(time.time(), aud={AUDIENCE: 1}) == "audience"
