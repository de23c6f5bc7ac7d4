"""The contract as it is served: the committed document, for this server, without a token, below any path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser

from tests.servers.api import ApiProcess
from tests.servers.base_path import below
from tests.servers.seaweedfs import SeaweedFS

COMMITTED: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())


async def test_it_serves_what_is_committed(http: aiohttp.ClientSession, shared_api: ApiProcess) -> None:
    async with http.get(f"{shared_api.url}/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert await answer.json() == COMMITTED
        etag = answer.headers["ETag"]
        assert "no-cache" in answer.headers["Cache-Control"]
    async with http.get(f"{shared_api.url}/openapi.json", headers={"If-None-Match": etag}) as again:
        assert (again.status, await again.read()) == (304, b"")


async def test_it_names_the_public_url_and_is_there_before_the_bucket_is(
    http: aiohttp.ClientSession, tmp_path: Path, seaweedfs: SeaweedFS, prefix: str
) -> None:
    api = ApiProcess(tmp_path / "api", seaweedfs, prefix=prefix)
    async with below("/media/v1", api.url) as url:
        api.settings["listen"]["public_url"] = url + "/"
        api.start()
        try:
            async with http.get(f"{url}/openapi.json") as answer:
                served = await answer.json()
            assert served == COMMITTED | {"servers": [{"url": url}]}
            headers = {"Authorization": f"Bearer {api.token}"}
            async with http.get(served["servers"][0]["url"] + "/object/part_limit", headers=headers) as answer:
                assert answer.status == 200
            async with http.get(f"{url}/docs") as answer:
                assert url in await answer.text()
        finally:
            api.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_shows_every_call_and_asks_for_nothing(
    chromium: Browser, shared_api: ApiProcess, scheme: Any
) -> None:
    async with below("/somewhere/else", shared_api.url) as url:
        context = await chromium.new_context(color_scheme=scheme)
        page = await context.new_page()
        asked: list[str] = []
        troubles: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        answer = await page.goto(f"{url}/docs", wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert [address for address in asked if not address.startswith("data:")] == [f"{url}/docs"]
        assert troubles == [], "the policy must allow all that the page has"
        shown = await page.inner_text("main")
        for path, methods in COMMITTED["paths"].items():
            for method, operation in methods.items():
                section = page.locator(f"section#{operation['operationId']}")
                heading = " ".join((await section.locator("h3").inner_text()).split())
                assert heading == f"{method.upper()} {path} {operation['summary']}"
                examples = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
                for example in examples.get("examples", {}).values():
                    texts = await section.locator("pre").all_text_contents()
                    assert example["value"] in [json.loads(text) for text in texts]
        for name in COMMITTED["components"]["schemas"]:
            assert name in shown
        assert await page.evaluate("getComputedStyle(document.body).display") == "grid", "the style is in force"
        for width in (1280, 360):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it sticks out sideways"
        await page.click("main > p a")
        assert page.url == f"{url}/openapi.json"
        await context.close()
