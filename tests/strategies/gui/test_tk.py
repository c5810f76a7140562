"""What only Tk has: an exit in a callback."""

from __future__ import annotations

import pytest
from guis import needs
from isolated import isolated

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("screen"), pytest.mark.parametrize("toolkit", ["tk"])]


@pytest.fixture(autouse=True)
def _is_here(toolkit: str) -> None:
    needs(toolkit)


@isolated
def test_exit_in_a_callback_of_tk_ends_the_wait(toolkit: str) -> None:
    import asyncio
    import sys

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    cleaned: list[bool] = []
    codes: list[object] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            cleaned.append(True)

    def nested() -> None:
        gui.after(10, lambda: sys.exit(3))
        block_on(work())

    for function in (lambda: sys.exit(3), nested):
        cleaned.clear()
        gui.after(10, function)
        try:
            block_on(work())
        except SystemExit as error:
            codes.append(error.code)
        assert cleaned
    assert codes == [3, 3]
    assert block_on(asyncio.sleep(0.01, "value")) == "value"
