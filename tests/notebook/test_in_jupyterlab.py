"""The notebook of the docs as its reader has it: in JupyterLab, in a browser, run and stopped by the toolbar's buttons.

``BRIDGE_NOTEBOOK_PICTURE=file.png`` has the picture of the docs taken.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import browsing

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

PICTURE = "BRIDGE_NOTEBOOK_PICTURE"
RAISES = "raises-exception"  # the tag of a cell that is meant to
WINDOW = {"width": 1280, "height": 960}  # pixels
PROMPT = 10.0  # seconds from the click on the stop button to the end of the cell, which would wait for an hour
BLOCKED = {
    "block_on": "print('waits')\nblock_on(Deferred())",
    "await": "print('waits')\nawait Deferred()",
    "async with": "print('waits')\nasync with asyncio.timeout(3600):\n    await asyncio.sleep(3600)",
    "last expression": "print('waits')\nasyncio.sleep(3600)",
    "%%loop": "%%loop\nprint('waits')\nblock_on(Deferred())",
    "sync code": "print('waits')\ntime.sleep(3600)",
}


class Notebook:
    """A notebook in JupyterLab.

    :param page: of Playwright's, on whose loop the methods are called.
    """

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.path = path
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")

    async def click(self, command: str) -> None:
        """Click the button of the notebook's toolbar that does this."""
        await self.page.locator(f".jp-NotebookPanel-toolbar [data-command='notebook:{command}']").click()

    async def open(self, address: str) -> None:
        """Open the address, and wait for the kernel."""
        await self.page.goto(address)
        await self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()

    async def run_all(self) -> None:
        """Click the button that runs every cell in a new kernel, and wait until the last has its number."""
        await self.click("restart-run-all")
        await self.page.locator(".jp-Dialog .jp-mod-accept").click()
        await self._numbered(self.cells.last, f"[{await self.cells.count()}]:")

    async def start(self, source: str) -> None:
        """Write a cell below the others, and run it."""
        await self.cells.last.locator(".jp-InputArea-prompt").click()
        await self.click("insert-cell-below")
        await self.cells.last.locator(".cm-content").fill(source)
        await self.page.keyboard.press("Control+Enter")

    async def shows(self, text: str) -> None:
        """Wait until the last cell shows a text, whether it has ended or not."""
        await self.cells.last.locator(".jp-OutputArea", has_text=text).wait_for()

    async def end(self) -> str:
        """Wait until the last cell has ended, and return what it shows."""
        await self._numbered(self.cells.last, re.compile(r"^\[\d+\]:$"))
        shown: str = await self.cells.last.locator(".jp-OutputArea").inner_text()
        return shown

    async def _numbered(self, cell: Any, prompt: str | re.Pattern[str]) -> None:
        await cell.locator(".jp-InputArea-prompt", has_text=prompt).wait_for()

    async def saved(self) -> list[dict[str, Any]]:
        """Click the button that saves the notebook, and return its code cells."""
        async with self.page.expect_response(lambda answer: answer.request.method == "PUT"):
            await self.page.locator(".jp-NotebookPanel-toolbar [data-command='docmanager:save']").click()
        cells = json.loads(self.path.read_text())["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]

    async def stacks(self) -> str:
        """Click on the first open call that the cell with %bridge shows, and return the stacks that unfold."""
        details = self.cell_with("%bridge").locator("details").first
        await details.locator("summary").click()
        unfolded: str = await details.locator("pre").inner_text()
        await details.locator("summary").click()
        return unfolded

    async def table(self) -> dict[str, str]:
        """Return the names and the values of the table that the cell with %bridge shows."""
        rows = self.cell_with("%bridge").locator("table tr")
        return {await row.locator("th").inner_text(): await row.locator("td").inner_text() for row in await rows.all()}

    async def traceback(self, source: str) -> str:
        """Return the error that the cell with this source shows."""
        text: str = await self.cell_with(source).locator(".jp-OutputArea").inner_text()
        return text

    def cell_with(self, source: str) -> Any:
        """Return the code cell that has this in its source."""
        return self.cells.filter(has=self.page.locator(".jp-InputArea", has_text=source))

    async def take_picture(self, path: str) -> None:
        """Write a picture of the table of %bridge and an error below it, without the list of files."""
        await self.page.keyboard.press("Control+b")
        await self.page.set_viewport_size({"width": 900, "height": 1290})
        text = self.page.locator(".jp-RenderedMarkdown p", has_text="shows the state of the bridge")
        await text.evaluate("text => text.scrollIntoView({block: 'start'})")
        await self.page.screenshot(path=path)


@pytest.fixture(scope="module")
def notebook(lab: Any) -> Iterator[Any]:
    """The notebook, after the run-all button. Its methods are called in sync code."""
    with browsing() as (bridge, browser):
        page = bridge.block_on(_empty_page(browser), timeout=60)
        opened = bridge.blocking(Notebook(page, lab.notebook), timeout=200)
        opened.open(lab.address)
        opened.run_all()
        yield opened


async def _empty_page(browser: Any) -> Any:
    page = await browser.new_page(viewport=WINDOW)
    page.set_default_timeout(90_000)  # milliseconds
    return page


def test_run_all_runs_every_cell(notebook: Any) -> None:
    cells = notebook.saved()
    assert len(cells) > 15
    for number, cell in enumerate(cells, 1):
        assert cell["execution_count"] == number, cell["source"]
        failed = [each["ename"] for each in cell["outputs"] if each["output_type"] == "error"]
        assert bool(failed) == (RAISES in cell["metadata"].get("tags", ())), (cell["source"], failed)


def test_bridge_shows_a_table_and_the_stacks_of_an_open_call(notebook: Any) -> None:
    table = notebook.table()
    assert table["loop"].startswith("runs")
    assert table["open calls"] == "1"
    assert "median" in table
    assert "forgotten" in notebook.stacks()


def test_an_error_has_the_frames_of_the_cells_only(notebook: Any) -> None:
    _is_short(notebook.traceback("await parse()"), "ValueError: invalid literal for int()", frames=2)


def test_the_picture_of_the_docs_is_taken(notebook: Any) -> None:
    """Before other cells are added."""
    if PICTURE not in os.environ:
        pytest.skip(f"takes it if {PICTURE} says where")
    notebook.take_picture(os.environ[PICTURE])


def test_a_call_of_the_reactor_is_refused_with_what_works_in_a_cell(notebook: Any) -> None:
    notebook.start("reactor.callLater(1, print)")
    shown = notebook.end()
    _is_short(shown, "WrongThreadError", frames=1)
    assert "%%loop" in shown


@pytest.mark.parametrize("name", BLOCKED)
def test_the_stop_button_ends_a_blocked_cell(notebook: Any, name: str) -> None:
    notebook.start(BLOCKED[name])
    notebook.shows("waits")
    began = time.monotonic()
    notebook.click("interrupt-kernel")
    shown = notebook.end()
    assert time.monotonic() - began < PROMPT
    _is_short(shown, "KeyboardInterrupt", frames=0 if name == "%%loop" else 1)  # which runs on another thread's stack
    notebook.start("block_on(asyncio.sleep(0, 'it goes on'))")
    assert "it goes on" in notebook.end()


def _is_short(shown: str, last: str, frames: int) -> None:
    assert last in shown
    assert len(re.findall(r"^Cell In\[\d+\], line \d+\b", shown, re.MULTILINE)) == frames, shown
    assert "File " not in shown  # which begins a frame that is in no cell
