"""What changes under an API that serves: the store's credentials, who may call, the operator itself. Uploads go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from tests.api.calls import Calls
from tests.e2e.iam_store import IamSeaweedFS, Key, iam_seaweedfs
from tests.e2e.installed import OPERATOR, SERVICE, Installed, call, of, rule, upload
from tests.e2e.uploading import Uploading
from tests.servers.kube.waiting import until
from tests.servers.node.cluster import MISSING_IMAGE
from tests.servers.proxy import StoreProxy, running
from tests.servers.proxy_calls import Call

pytestmark = pytest.mark.slow

NEXT_TAG = "next"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What stays as it is while nothing is rolled, restarted or unready. `revision`: how often the Deployment was
    rolled; its generation says less, since that counts annotations too. `ready`: since when it is so.
    """

    runs: dict[str, int]
    revision: str
    template: dict[str, Any]
    ready: tuple[str, str]

    @classmethod
    def of(cls, installed: Installed) -> Footing:
        ready = installed.condition("Ready")
        deployment = installed.get("deployment", "media-putgate-api")
        return cls(
            runs=installed.runs(),
            revision=deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            template=deployment["spec"]["template"],
            ready=(ready["status"], ready["lastTransitionTime"]),
        )


def until_seen(installed: Installed) -> None:
    """The operator has worked off the last change of the spec."""

    def seen() -> bool:
        found = installed.get("uploadbucket", "media")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    until("the operator has seen the change", seen, within=120)
    installed.until("Reconciling", "False")


@contextmanager
def rotating(installed: Installed, store: IamSeaweedFS) -> Iterator[tuple[Installed, StoreProxy]]:
    """Everybody reaches the store through a proxy that sees which key is used."""
    with running(store.endpoint) as proxy, installed.cluster.forward_in(proxy.port) as address:
        yield replace(installed, store=store, endpoint=f"http://{address}"), proxy


def key_of(call: Call) -> str:
    """The access key id that a call was signed with."""
    signed = call.head.query.get("X-Amz-Credential") or call.head.headers.get("authorization", "").partition("=")[2]
    return signed.split("/")[0]


def of_probe(call: Call) -> bool:
    return b".putgate/v1/probe/" in call.key


def used(proxy: StoreProxy) -> list[str]:
    """The access keys of all calls but the probe's, which also sends what must be refused."""
    return [key_of(each) for each in proxy.requests if not of_probe(each)]


def test_credentials_rotate_under_load(installed: Installed, tmp_path: Path) -> None:
    with iam_seaweedfs(tmp_path / "store") as store, rotating(installed, store) as (rotated, proxy):
        first, second = store.make_key(), store.make_key()
        give(rotated, first)
        rotated.accounts("uploader")
        rotated.bucket(s3={"publicEndpoint": proxy.url})
        rotated.until("Ready", "True")
        before = Footing.of(rotated)
        with (
            rotated.cluster.expose_service(rotated.namespace, SERVICE, 80) as url,
            Uploading(url, rotated.token("uploader")) as uploads,
        ):
            uploads.more(1)
            assert set(used(proxy)) == {first[0]}
            give(rotated, second)
            until("the second key alone is used", lambda: set(used(proxy)[-20:]) == {second[0]}, within=120)
            # Whatever was signed with the first one is over.
            uploads.more(1)
            store.revoke(first)
            proxy.reset()
            uploads.more(3)
            assert set(used(proxy)) == {second[0]}
        assert [each.kind for each in proxy.requests if each.status in (401, 403) and not of_probe(each)] == []
        rotated.until("CredentialsValid", "True")
        assert Footing.of(rotated) == before


def give(installed: Installed, key: Key) -> None:
    installed.secret(accessKeyId=key[0], secretAccessKey=key[1])


def test_a_rule_is_taken_away_without_a_rollout(installed: Installed) -> None:
    installed.secret()
    installed.accounts("uploader", "keeper")
    installed.bucket(access=[rule("uploader"), rule("keeper")])
    installed.until("Ready", "True")
    installed.until("Reconciling", "False")
    before = Footing.of(installed)
    source = installed.folder / "source"
    source.write_bytes(os.urandom(1000))
    token, keeper = installed.token("uploader"), installed.token("keeper")
    with installed.cluster.expose_service(installed.namespace, SERVICE, 80) as url:
        done = upload(installed, url, token, source, "uploader/before")
        assert done.returncode == 0, done.stderr
        installed.patch("uploadbucket/media", {"spec": {"access": [rule("keeper")]}})
        until("the caller is refused", lambda: call(url, token)[0] == 403, within=120)
        refused = upload(installed, url, token, source, "uploader/after")
        assert refused.returncode == 4
        assert "no access rule is about this caller" in refused.stderr
        kept = upload(installed, url, keeper, source, "keeper/after")
        assert kept.returncode == 0, kept.stderr
        installed.patch("uploadbucket/media", {"spec": {"access": [rule("uploader")]}})
        until("the other one is refused", lambda: call(url, keeper, "/files?prefix=keeper/")[0] == 403, within=120)
        assert [each["name"] for each in call(url, token)[1]["files"]] == ["uploader/before"]
    until_seen(installed)
    assert Footing.of(installed) == before


def talk(url: str, token: str, say: Callable[[Calls], Awaitable[Answer]]) -> Answer:
    """Single calls of the API, which nobody tries again."""

    async def said() -> Answer:
        async with aiohttp.ClientSession() as http:
            return await say(Calls(http, url, token))

    return asyncio.run(said())


def images(installed: Installed, selector: str) -> list[str]:
    return sorted(
        pod["spec"]["containers"][0]["image"] for pod in installed.cluster.pods(installed.namespace, selector)
    )


def waiting(pod: dict[str, Any]) -> list[str]:
    """Why its containers wait."""
    return [each["state"].get("waiting", {}).get("reason", "") for each in pod["status"].get("containerStatuses", ())]


def test_uploads_go_on_while_the_operator_is_upgraded(installed: Installed) -> None:
    installed.secret()
    installed.accounts("uploader")
    installed.bucket()
    installed.until("Ready", "True")
    installed.until("Reconciling", "False")
    before = Footing.of(installed)
    token, data = installed.token("uploader"), os.urandom(9_000_000)
    with (
        installed.cluster.expose_service(installed.namespace, SERVICE, 80) as url,
        Uploading(url, token) as uploads,
    ):
        uploads.more(1)
        status, begun = talk(url, token, lambda calls: calls.initiate("uploader/across", data))
        assert (status, len(begun["parts"])) == (200, 2), begun
        upgrade_to_nothing(installed)
        uploads.more(1)
        assert Footing.of(installed) == before, "an upgrade that cannot start takes nothing away"
        installed.helm("upgrade", **{"image.tag": NEXT_TAG})
        until("only the next image runs", lambda: is_rolled(installed, url, token), within=300)
        uploads.more(2)
        # Begun with the old pod, ended with the new one.
        assert talk(url, token, lambda calls: calls.put_parts(begun, data)) == [200, 200]
        end = {"upload_id": begun["upload_id"]}
        status, ended = talk(url, token, lambda calls: calls.post("complete_multipart_upload", end))
        assert (status, ended["status"]) == (200, "complete"), ended
    installed.until("Ready", "True")
    after = installed.runs()
    assert list(after.values()) == [0]
    assert not after.keys() & before.runs.keys()


def upgrade_to_nothing(installed: Installed) -> None:
    """To an image that no registry has; it ends when the new operator is known to wait for it."""
    repository, _, tag = MISSING_IMAGE.rpartition(":")
    installed.helm("upgrade", **{"image.repository": repository, "image.tag": tag})

    def backs_off() -> bool:
        pods = installed.cluster.pods(installed.namespace, OPERATOR)
        return any("ImagePullBackOff" in waiting(pod) for pod in pods)

    until("the new operator waits for its image", backs_off, within=120)


def is_rolled(installed: Installed, url: str, token: str) -> bool:
    """Asked again and again during the rollout; at each time a command's upload has to succeed, too."""
    source = installed.folder / "source"
    source.write_bytes(os.urandom(6_000_000))
    done = upload(installed, url, token, source, "uploader/by-command")
    # Anything but an assertion ends the wait.
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return images(installed, of("media")) == [f"putgate:{NEXT_TAG}"]
