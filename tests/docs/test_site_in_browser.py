"""The built site in a browser, from a folder of files: wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from browsers import browsing, complaints_of

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

LOOK = (Path(__file__).parent / "programs" / "look.js").read_text()
WIDTHS = (1280, 390)  # pixels: a desktop's window, and a phone
SCHEMES = ("light", "dark")
TALL = 4000  # pixels, so that the whole of each picture is in the window


async def looked_at(
    browser: Any, files: list[Path], widths: Sequence[int], schemes: Sequence[str] = SCHEMES, height: int = 800
) -> list[str]:
    """Open files one after the other, each at these widths and in these schemes, and return what is wrong with them."""
    wrong: list[str] = []
    page = await browser.new_page()
    complaints = complaints_of(page)
    for file in files:
        await page.goto(file.as_uri())
        for width in widths:
            await page.set_viewport_size({"width": width, "height": height})
            for scheme in schemes:
                await page.emulate_media(color_scheme=scheme)
                # The width decides no colour, and these take the longest.
                found = await page.evaluate(LOOK, width == widths[0])
                wrong += [f"{file.name}, {width} wide, {scheme}: {each}" for each in found]
        wrong += [f"{file.name}: {each}" for each in complaints]
        complaints.clear()
    await page.close()
    return wrong


def test_every_page_can_be_read_at_both_widths_and_in_both_schemes(site: Path) -> None:
    """Images are there, nothing is wider than the window, text stands out, and no script or request fails."""
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert len(pages) > 40
    with browsing() as (bridge, browser):
        wrong = bridge.block_on(looked_at(browser, pages, WIDTHS), timeout=250)
    assert not wrong, "\n".join(wrong)


def test_the_text_of_every_picture_stands_out(site: Path) -> None:
    """On the white paper that site.css gives to a picture, in either scheme the same."""
    pictures = sorted((site / "_images").glob("*.svg"))
    assert len(pictures) > 5
    with browsing() as (bridge, browser):
        wrong = bridge.block_on(looked_at(browser, pictures, WIDTHS[:1], SCHEMES[:1], TALL), timeout=100)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("start", ["index.html", "how-to/django.html"])
def test_the_search_needs_no_server(site: Path, start: str) -> None:
    async def search(browser: Any) -> list[str]:
        page = await browser.new_page()
        complaints = complaints_of(page)
        await page.goto((site / start).as_uri())
        await page.get_by_placeholder("Search").fill("ReactorNotRestartable")
        await page.keyboard.press("Enter")
        await page.get_by_text("Search finished").wait_for()
        await page.locator("ul.search a", has_text="Errors").first.click()
        await page.wait_for_url("**/errors.html*")
        assert "ReactorNotRestartable" in await page.locator("article").inner_text()
        return complaints

    with browsing() as (bridge, browser):
        assert bridge.block_on(search(browser), timeout=100) == []


def test_a_page_that_is_wrong_is_found_to_be(tmp_path: Path) -> None:
    """So that the tests above see something."""
    page, picture = tmp_path / "page.html", tmp_path / "picture.svg"
    page.write_text(
        "<meta charset=utf-8><script>missing()</script><img src=gone.png>"
        "<p style='width: 900px'>wide</p><p style='color: #aaa'>pale</p>"
    )
    picture.write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='200' height='50'><rect width='200' height='50' fill='#1f4e79'/>"
        "<text x='10' y='30' fill='#222222'>dark on dark</text></svg>"
    )
    with browsing() as (bridge, browser):
        found = bridge.block_on(looked_at(browser, [page], (390,)), timeout=100)
        of_picture = bridge.block_on(looked_at(browser, [picture], (390,)), timeout=100)
    for part in ("missing is not defined", "not loaded", "gone.png is not loaded", "wider than the window", '"pale"'):
        assert any(part in each for each in found), (part, found)
    assert [each for each in of_picture if "dark on dark" in each], of_picture
