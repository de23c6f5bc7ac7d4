"""A page of another origin, in a real browser, uploads by `examples/browser` and reads back: API and store let it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page
from playwright.async_api import Error as PageError

from tests.api.in_cluster import condition, in_cluster, until_report
from tests.servers.api import ApiProcess
from tests.servers.ports import free_port
from tests.servers.seaweedfs import SeaweedFS

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
PART = 8 * 1024 * 1024

pytestmark = pytest.mark.slow


@asynccontextmanager
async def pages(port: int) -> AsyncIterator[str]:
    """The example's own web server; another port is another origin."""

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(EXAMPLE / "index.html")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_static("/", EXAMPLE)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def api(tmp_path: Path, seaweedfs: SeaweedFS, prefix: str, port: int) -> Iterator[ApiProcess]:
    """It lets exactly the page's origin through."""
    process = in_cluster(ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix))
    origins = {"allowed_origins": [f"http://127.0.0.1:{port}"]}
    process.settings["cors"], process.settings["storage"]["cors"] = origins, origins
    process.start()
    until_report(process, lambda report: condition(report, "BucketConfigured").status == "True")
    yield process
    process.kill()
    with closing(seaweedfs.client()) as client:
        client.delete_bucket_cors(Bucket=seaweedfs.bucket)


@pytest.fixture
async def page(chromium: Browser, port: int) -> AsyncIterator[Page]:
    async with pages(port) as url:
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(url)
        yield page
        await context.close()


async def submit(page: Page, api: ApiProcess, name: str, path: Path) -> str:
    """What the page says in the end."""
    await page.fill("[name=server]", api.url)
    await page.fill("[name=token]", api.token)
    await page.fill("[name=name]", name)
    await page.set_input_files("[name=file]", path)
    await page.click("button")
    await page.wait_for_selector("output.done, output.failed", timeout=300_000)
    return await page.inner_text("output")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_files_of_every_size_are_uploaded_and_read_back(
    page: Page, api: ApiProcess, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    for size in (0, 13, PART + 1, 3 * PART):
        data = secrets.token_bytes(size)
        name = f"from a page/{size} ü.bin"
        said = await submit(page, api, name, written(tmp_path / "file.bin", data))
        assert said == f"stored {name} ({size} bytes)"
        with closing(seaweedfs.client()) as client:
            kept = client.get_object(Bucket=seaweedfs.bucket, Key=api.prefix + name)["Body"].read()
        assert kept == data
        # The store lets the page read it too, by the URL that it was given.
        found: dict[str, Any] = await page.evaluate(
            """async (url) => {
                const answer = await fetch(url);
                const digest = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer());
                const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
                return { sha256: hex, etag: answer.headers.get("ETag") };
            }""",
            await page.get_attribute("output a", "href"),
        )
        assert found["sha256"] == hashlib.sha256(data).hexdigest()
        assert found["etag"], "a page that reads in ranges needs it"


async def test_an_upload_that_broke_off_goes_on(page: Page, api: ApiProcess, tmp_path: Path) -> None:
    path = written(tmp_path / "file.bin", secrets.token_bytes(3 * PART))
    # The tab loses its connection to the store after one part.
    sent: list[str] = []

    async def one_part_only(route: Any) -> None:
        if sent or route.request.method != "PUT":
            await route.abort()
        else:
            sent.append(route.request.url)
            await route.continue_()

    await page.route(lambda url: "X-Amz-Signature" in url, one_part_only)
    assert "could not be sent" in await submit(page, api, "resumed.bin", path)
    assert len(sent) == 1
    await page.unroute_all()
    puts: list[str] = []
    page.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    assert await submit(page, api, "resumed.bin", path) == f"stored resumed.bin ({3 * PART} bytes)"
    assert len(puts) == 2, "what the store holds already is not sent again"


async def test_further_pages_of_parts_are_signed(page: Page, api: ApiProcess, tmp_path: Path) -> None:
    signed: list[list[int]] = []

    async def shorter(route: Any) -> None:
        """A first page of one part, as a file of thousands has one of a thousand."""
        answer = await route.fetch()
        body = await answer.json()
        body |= {"parts": body["parts"][:1], "next_part_number": 2}
        await route.fulfill(response=answer, json=body)

    await page.route("**/object/initiate_multipart_upload", shorter)
    page.on(
        "request",
        lambda request: signed.append(request.post_data_json["part_numbers"]) if "auth_sign" in request.url else None,
    )
    path = written(tmp_path / "file.bin", secrets.token_bytes(3 * PART))
    assert await submit(page, api, "paged.bin", path) == f"stored paged.bin ({3 * PART} bytes)"
    assert signed == [[2, 3]]


async def test_a_page_reads_by_access_url_as_a_redirect_hides_its_origin(
    page: Page, api: ApiProcess, tmp_path: Path
) -> None:
    await submit(page, api, "x", written(tmp_path / "x", b"x"))
    fetched = "async ([url, token]) => { await fetch(url, { headers: { Authorization: `Bearer ${token}` } }); }"
    with pytest.raises(PageError, match="Failed to fetch"):
        await page.evaluate(fetched, [f"{api.url}/files/x", api.token])


async def test_a_page_of_no_allowed_origin_gets_nowhere(chromium: Browser, api: ApiProcess, tmp_path: Path) -> None:
    async with pages(free_port()) as url:
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(url)
        said = await submit(page, api, "x", written(tmp_path / "x", b"x"))
        assert said == "Failed to fetch (TypeError)"
        await context.close()


async def test_a_problem_is_shown(page: Page, api: ApiProcess, tmp_path: Path) -> None:
    said = await submit(page, api, "a//b", written(tmp_path / "x", b"x"))
    assert said.endswith("(name_invalid)")
