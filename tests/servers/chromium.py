"""A real browser: the system's Chromium without a window, driven by Playwright. Every request of a page is seen."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.servers.required import missing


def chromium_binary() -> str:
    found = shutil.which("chromium")
    if found is None:
        missing("needs Chromium: apt-get install --no-install-recommends chromium")
    return found


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    binary = chromium_binary()
    async with async_playwright() as playwright:
        # Its sandbox needs a user who is not root.
        browser = await playwright.chromium.launch(executable_path=binary, chromium_sandbox=False)
        yield browser
        await browser.close()
