"""The Chromium of the system, headless, which Playwright drives."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import Bridge


def chromium() -> str:
    """Return the path of the program."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium on this machine; get it by apt-get install chromium")
    return program


@contextlib.contextmanager
def browsing() -> Iterator[tuple[Bridge, Any]]:
    """Start a browser, and give it with the bridge on whose loop it is driven."""
    api = pytest.importorskip("playwright.async_api", reason="needs Playwright: pip install playwright")
    program = chromium()
    with Bridge("browser", install_reactor=False) as bridge, bridge.enter(api.async_playwright()) as playwright:
        sandbox = os.geteuid() != 0  # Chromium has none for root
        launched = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        with bridge.enter(bridge.block_on(launched, timeout=60)) as browser:
            yield bridge, browser


def complaints_of(page: Any) -> list[str]:
    """Return a list that gets what the browser finds wrong with a page from now on: errors and failed requests."""
    found: list[str] = []

    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            found.append(f"console: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: found.append(f"a script's error: {error}"))
    page.on("requestfailed", lambda request: found.append(f"not loaded: {request.url}"))
    return found
