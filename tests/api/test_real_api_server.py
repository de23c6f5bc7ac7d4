"""ServiceAccount tokens as a real API server makes and publishes them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from putgate_api.auth.api_server import ApiServer, Unavailable
from putgate_api.auth.authenticate import NotAuthenticated
from putgate_api.auth.caller import Caller, owner_id
from putgate_api.auth.keys import Keys
from putgate_api.auth.rules import RulesWatch
from putgate_api.auth.service_accounts import ServiceAccounts
from putgate_protocol.settings.rules import AccessRule, RulesFile, rules_hash
from tests.api.waiting import until as waiting
from tests.servers.kube.control_plane import ISSUER, ControlPlane
from tests.servers.kube.waiting import until

AUDIENCE = "putgate.io/apps/media"
DISCOVERY = "system:service-account-issuer-discovery"


async def failure(server: ApiServer) -> Unavailable | None:
    try:
        await server.published()
    except Unavailable as error:
        return error
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A namespace with the ServiceAccounts `uploader` and, for the API's own pod, `api`."""

    plane: ControlPlane
    namespace: str
    server: ApiServer
    accounts: ServiceAccounts

    def token(self, *options: str, audience: str | None = AUDIENCE) -> str:
        more = [] if audience is None else [f"--audience={audience}"]
        return self.plane.kubectl("create", "token", "-n", self.namespace, "uploader", *more, *options).strip()

    async def caller(self, token: str) -> Caller:
        return await self.accounts.authenticate(f"Bearer {token}")

    async def reason(self, token: str) -> str:
        with pytest.raises(NotAuthenticated) as caught:
            await self.caller(token)
        return caught.value.reason


@pytest.fixture(name="world")
def a_world(control_plane: ControlPlane, tmp_path: Path) -> World:
    namespace = control_plane.namespace(f"auth-{secrets.token_hex(4)}")
    for name in ("uploader", "api"):
        control_plane.kubectl("create", "serviceaccount", "-n", namespace, name)
    own, rules = tmp_path / "token", tmp_path / "rules.yaml"
    own.write_text(control_plane.token(namespace, "api"))
    rule = AccessRule.model_validate(
        {
            "name": "mine",
            "subjects": [{"kind": "ServiceAccount", "name": "uploader", "namespace": namespace}],
            "verbs": ["upload"],
            "prefixes": ["{namespace}/{serviceAccount}/", "nodes/{node}/"],
        }
    )
    rules.write_text(RulesFile(hash=rules_hash([rule]), rules=[rule]).model_dump_json())
    server = ApiServer(url=control_plane.url, token_file=own, ca_file=control_plane.ca_file)
    accounts = ServiceAccounts(
        keys=Keys(server.published),
        rules=RulesWatch(rules),
        audience=AUDIENCE,
        max_lifetime=timedelta(hours=24),
    )
    return World(plane=control_plane, namespace=namespace, server=server, accounts=accounts)


async def test_a_token_of_our_audience_is_its_service_account(world: World) -> None:
    caller = await world.caller(world.token())
    subject = f"system:serviceaccount:{world.namespace}:uploader"
    assert (caller.subject, caller.owner) == (subject, owner_id(ISSUER, subject))
    # A token that no pod is bound to names no node.
    assert [rule.prefixes for rule in caller.rules] == [(f"{world.namespace}/uploader/",)]


async def test_a_pods_token_names_its_node(world: World) -> None:
    world.plane.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-7.test"}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": world.namespace},
            "spec": {
                "serviceAccountName": "uploader",
                "automountServiceAccountToken": False,
                "nodeName": "node-7.test",
                "containers": [{"name": "c", "image": "none"}],
            },
        },
    )
    try:
        token = world.token("--bound-object-kind=Pod", "--bound-object-name=p")
        [rule] = (await world.caller(token)).rules
        assert rule.prefixes == (f"{world.namespace}/uploader/", "nodes/node-7.test/")
    finally:
        world.plane.kubectl("delete", "node", "node-7.test")


async def test_what_the_api_server_made_for_other_ends_is_refused(world: World) -> None:
    assert await world.reason(world.token(audience=None)) == "audience"
    assert await world.reason(world.token("--audience=vault")) == "audience"
    assert await world.reason(world.token("--duration=48h")) == "lifetime"
    assert (await world.caller(world.token("--duration=24h"))).rules


async def test_its_own_token_fetches_nothing_but_issuer_and_keys(world: World) -> None:
    mark = world.plane.mark()
    published = await world.server.published()
    assert published.issuer == ISSUER
    assert [key.algorithm for key in published.keys.values()] == ["RS256"]
    api = f"system:serviceaccount:{world.namespace}:api"
    asked = until("the audit log", lambda: world.plane.audit(user=api, since=mark))
    assert {event.verb for event in asked} == {"get"}


async def test_without_the_role_for_discovery_it_says_which_one_is_missing(world: World) -> None:
    binding = world.plane.get("clusterrolebinding", DISCOVERY)
    world.plane.kubectl("delete", "clusterrolebinding", DISCOVERY)
    try:
        # The API server learns of it by a watch of its own.
        error = await waiting(lambda: failure(world.server), lambda found: found is not None)
        assert error is not None
        assert error.reason == "JWKSForbidden"
        assert DISCOVERY in str(error)
    finally:
        kept = {
            key: binding["metadata"][key] for key in ("name", "labels", "annotations") if key in binding["metadata"]
        }
        world.plane.apply({**binding, "metadata": kept})
