"""A browser for tests of pages: Debian's Chromium, driven by Playwright without a download of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["console_of", "started_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
# As root in a container there is no sandbox, and without a graphics card WebGL is computed.
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def started_chromium() -> Iterator[Browser]:
    """Skips where there is no Chromium, unless the environment says that it must be there."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("CHROMIUM_REQUIRED"):
            pytest.fail("no Chromium on the path, though CHROMIUM_REQUIRED is set")
        pytest.skip("NO BROWSER: install Debian's chromium, as .ci/run does, to test pages as people see them")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=Path(path), args=list(ARGUMENTS))
        yield browser
        browser.close()


def console_of(page: Page) -> list[str]:
    """What the page will complain of, and what it will ask for beyond its own file."""
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else told.append(request.url))
    return told
