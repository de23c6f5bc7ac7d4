"""The protocol needs no library: `examples/curl.sh` uploads, is killed, and goes on, on a real store."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.api import ApiProcess
from tests.servers.proxy import StoreProxy
from tests.servers.proxy_calls import Call, kind
from tests.servers.proxy_faults import Answer, Cut
from tests.servers.required import missing
from tests.servers.seaweedfs import SeaweedFS

SCRIPT = Path(__file__).parents[2] / "examples" / "curl.sh"
PART = 8 * 1024 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("bash", "curl", "jq", "sha256sum"):
        if shutil.which(tool) is None:
            missing(f"needs {tool}: apt-get install {tool}")


@pytest.fixture
def api(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, store_proxy: StoreProxy) -> Iterator[ApiProcess]:
    """Its store is behind the proxy, for the API's calls and for what it signs."""
    process = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix, endpoint=store_proxy.url).start_probed()
    (process.folder / "token").write_text(process.token + "\n")
    store_proxy.reset()
    yield process
    process.kill()


def started(api: ApiProcess, file: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT), str(file), name],
        env={
            "PATH": os.environ["PATH"],
            "PUTGATE_SERVER": api.url,
            "PUTGATE_TOKEN_FILE": str(api.folder / "token"),
            "TMPDIR": str(file.parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(api: ApiProcess, file: Path, name: str) -> tuple[str, str]:
    process = started(api, file, name)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert api.token not in out + err
    return out, err


def stored(api: ApiProcess, name: str) -> bytes:
    with closing(api.store.client()) as client:
        body: bytes = client.get_object(Bucket=api.store.bucket, Key=api.prefix + name)["Body"].read()
        return body


def file_of(folder: Path, size: int) -> Path:
    path = folder / "a file"
    path.write_bytes(secrets.token_bytes(size))
    return path


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART + 12345])
def test_a_file_of_any_size(api: ApiProcess, tmp_path: Path, size: int) -> None:
    file, name = file_of(tmp_path, size), f'curl/{size} "ü" %41.bin'
    _, first = run(api, file, name)
    with closing(api.store.client()) as client:
        (key,) = [
            each["Key"]
            for each in client.list_objects_v2(Bucket=api.store.bucket, Prefix=api.prefix + "curl/")["Contents"]
        ]
        assert client.get_object(Bucket=api.store.bucket, Key=key)["Body"].read() == file.read_bytes()
    _, again = run(api, file, name)
    assert again == f"{name} is stored already\n"
    assert ("stored already" in first) is (size == 0)
    assert not list(tmp_path.glob("*.putgate*")), "nothing is left of a finished upload"


def test_killed_after_the_first_parts_it_goes_on_with_the_others(
    api: ApiProcess, tmp_path: Path, store_proxy: StoreProxy
) -> None:
    file = file_of(tmp_path, 4 * PART + 1)
    running: list[subprocess.Popen[str]] = []

    def kill(_: Call) -> None:
        os.killpg(running[0].pid, signal.SIGKILL)

    def third(call: Call) -> bool:
        return call.kind == "UploadPart" and call.head.query.get("partNumber") == "3"

    hook = store_proxy.on(third, kill, times=1)
    running.append(started(api, file, "curl/killed.bin"))
    running[0].communicate(timeout=300)
    assert running[0].returncode == -signal.SIGKILL
    assert hook.hits == 1
    store_proxy.reset()
    out, said = run(api, file, "curl/killed.bin")
    assert said.splitlines() == [
        "part 1 is stored already",
        "part 2 is stored already",
        "sent part 3",
        "sent part 4",
        "sent part 5",
    ]
    assert out == f"{api.url}/files/curl/killed.bin\n"
    assert [call.head.query["partNumber"] for call in store_proxy.of_kind("UploadPart")] == ["3", "4", "5"]
    assert stored(api, "curl/killed.bin") == file.read_bytes()


def test_a_part_that_is_refused_or_lost_is_signed_and_sent_again(
    api: ApiProcess, tmp_path: Path, store_proxy: StoreProxy
) -> None:
    file = file_of(tmp_path, 2 * PART)
    refused = store_proxy.rule(kind("UploadPart"), Answer(status=403), times=1)
    cut = store_proxy.rule(kind("UploadPart"), Cut(after_bytes=1000), times=1)
    run(api, file, "curl/refused.bin")
    assert (refused.hits, cut.hits) == (1, 1)
    assert stored(api, "curl/refused.bin") == file.read_bytes()


def test_content_that_is_known_is_copied(api: ApiProcess, tmp_path: Path, store_proxy: StoreProxy) -> None:
    file = file_of(tmp_path, 2 * PART)
    run(api, file, "curl/first.bin")
    store_proxy.reset()
    run(api, file, "curl/second.bin")
    assert store_proxy.of_kind("UploadPart") == []
    assert stored(api, "curl/second.bin") == file.read_bytes()


def test_an_id_that_is_no_good_any_more_is_forgotten(api: ApiProcess, tmp_path: Path) -> None:
    file = file_of(tmp_path, 2 * PART)
    Path(f"{file}.putgate").write_text("not one of ours\n")
    _, said = run(api, file, "curl/new.bin")
    assert "upload_id_invalid" in said
    assert stored(api, "curl/new.bin") == file.read_bytes()


def test_a_problem_ends_it_with_what_the_server_says(api: ApiProcess, tmp_path: Path) -> None:
    process = started(api, file_of(tmp_path, 1), "a//b")
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "(name_invalid)" in said
