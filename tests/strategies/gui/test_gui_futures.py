"""In a GUI's thread its events run while a Future is waited for, by result(), exception(), wait() or as_completed()."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from guis import TOOLKITS, needs
from isolated import isolated

pytestmark = [
    pytest.mark.process,
    pytest.mark.usefixtures("screen"),
    pytest.mark.parametrize("toolkit", TOOLKITS),
]


@pytest.fixture(autouse=True)
def _is_here(toolkit: str) -> None:
    needs(toolkit)


@isolated
def test_events_run_while_futures_are_waited_for(toolkit: str) -> None:
    import asyncio
    import concurrent.futures
    import threading
    from typing import Any

    from guis import happens, make_gui

    import bridge

    gui = make_gui(toolkit)
    portal = bridge.default_bridge().portal

    def of_the_standard_library(event: threading.Event) -> Any:
        """Return a Future that ends in a thread of its own, when a slot has run."""
        future: concurrent.futures.Future[str] = concurrent.futures.Future()
        threading.Thread(target=lambda: future.set_result("value" if event.wait(30) else "no slot has run")).start()
        return future

    def submitted(event: threading.Event) -> Any:
        return bridge.submit(happens(event, "value"))

    def of_the_portal(event: threading.Event) -> Any:
        return portal.start_task_soon(happens, event, "value")

    def first(futures: Any) -> Any:
        return next(iter(futures)).result()

    ways: list[tuple[Callable[[Any], Any], list[Callable[[threading.Event], Any]]]] = [
        (lambda future: future.result(), [submitted, of_the_portal]),
        (lambda future: future.exception() or future.result(), [submitted, of_the_portal]),
        (lambda future: first(bridge.wait([future]).done), [submitted, of_the_portal, of_the_standard_library]),
        (lambda future: first(bridge.as_completed([future])), [submitted, of_the_portal, of_the_standard_library]),
    ]
    results: list[Any] = []

    def press() -> None:
        """Wait as a slot does, each time for what only another slot can bring about."""
        for wait, kinds in ways:
            for make in kinds:
                event = threading.Event()
                gui.after(20, event.set)
                results.append(wait(make(event)))
        event = threading.Event()
        gui.after(20, event.set)
        results.append(portal.call(happens, event, "value"))
        gui.stop()

    gui.after(10, press)
    gui.run()
    assert results == ["value"] * 11, results
    # A time-out comes all the same, and the work goes on.
    future = bridge.submit(happens(threading.Event()))
    for timeout in (0, 0.02):
        try:
            future.result(timeout)
        except TimeoutError:
            pass
        else:
            raise AssertionError
        assert bridge.wait([future], timeout).not_done == {future}
    assert not future.done()
    future.cancel()
    assert bridge.block_on(asyncio.sleep(0, "goes on")) == "goes on"


@isolated
def test_ctrl_c_ends_the_wait_and_leaves_the_work(toolkit: str) -> None:
    import asyncio
    import os
    import signal
    import threading
    import time

    from guis import make_gui

    import bridge

    gui = make_gui(toolkit)
    ended = asyncio.Event()
    for wait in (
        lambda future: future.result(),
        lambda future: future.exception(),
        lambda future: bridge.wait([future]),
        lambda future: list(bridge.as_completed([future])),
    ):
        future = bridge.submit(ended.wait())
        gui.after(20, lambda: threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start())
        begins = time.monotonic()
        try:
            wait(future)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        assert time.monotonic() - begins < 10
        assert not future.done()
        assert not future._waiters  # type: ignore[attr-defined]
        assert not future._condition._waiters  # type: ignore[attr-defined]
    bridge.block_on(lambda: ended.set())
    assert future.result(10) is True


@isolated
def test_the_end_of_the_application_ends_the_wait_and_leaves_the_work(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    import bridge

    gui = make_gui(toolkit)
    gui.show()
    future = bridge.submit(asyncio.sleep(1000))
    gui.after(50, gui.close)
    message = ""
    try:
        future.result()
    except bridge.BridgeError as error:
        message = str(error)
    assert "the work goes on" in message
    assert not future.done()
    future.cancel()


@isolated
def test_a_window_that_stands_still_for_submitted_work_is_reported(toolkit: str) -> None:
    import asyncio
    import concurrent.futures
    import logging
    from typing import Any

    from guis import make_gui

    import bridge

    gui = make_gui(toolkit)
    texts: list[str] = []
    reported = asyncio.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            bridge.submit(reported.set)

    logging.getLogger("bridge").addHandler(Handler())
    logging.getLogger("bridge").propagate = False
    bridge.configure(stall_after=0.1)
    waits: list[Any] = [concurrent.futures.wait, lambda fs: list(concurrent.futures.as_completed(fs))]

    def press() -> None:
        waits[len(texts)]([bridge.submit(reported.wait())])

    for name, instead in (("wait", "bridge.wait(futures)"), ("as_completed", "bridge.as_completed(futures)")):
        reported.clear()
        gui.after(10, lambda: (press(), gui.stop()))
        gui.run()
        kind = "Tk" if toolkit == "tk" else "Qt"
        (text,) = texts[-1:]
        expected = f"(MainThread), which runs the events of {kind}, stands still for it in concurrent.futures.{name}; "
        assert f"{expected}write {instead}" in text, text
    assert len(texts) == 2, texts
