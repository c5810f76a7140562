"""What only Qt has: loops inside loops, objects that are deleted later, and quitting with the last window."""

from __future__ import annotations

import pytest
from guis import BINDINGS, needs
from isolated import isolated

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("screen"), pytest.mark.parametrize("toolkit", BINDINGS)]


@pytest.fixture(autouse=True)
def _is_here(toolkit: str) -> None:
    needs(toolkit)


@isolated
def test_what_is_deleted_later_is_deleted_while_blocked(toolkit: str) -> None:
    import asyncio
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    gone: list[object] = []
    both = threading.Event()
    core = gui.core
    before, inside = core.QObject(), core.QObject()
    before.destroyed.connect(lambda: gone.append("before"))
    inside.destroyed.connect(lambda: gone.append("inside"))
    for each in (before, inside):
        each.destroyed.connect(lambda: both.set() if len(gone) == 2 else None)
    before.deleteLater()
    gui.after(10, inside.deleteLater)
    block_on(happens(both))
    assert sorted(map(str, gone)) == ["before", "inside"]

    # In a slot, as Qt promises, what was deleted outside the wait stays until the slot has ended.
    gone.clear()
    kept = core.QObject()
    kept.destroyed.connect(lambda: gone.append("kept"))

    def slot() -> None:
        kept.deleteLater()
        block_on(asyncio.sleep(0.05))
        assert not gone
        gui.after(50, gui.stop)

    gui.after(0, slot)
    gui.run()
    assert gone == ["kept"]


@isolated
def test_a_window_that_is_closed_before_the_call_ends_the_program_after_it(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    gui.show()
    results: list[object] = []

    def slot() -> None:
        gui.close()
        results.append(block_on(asyncio.sleep(0.2, "saved")))

    gui.after(0, slot)
    gui.run()
    assert results == ["saved"]
