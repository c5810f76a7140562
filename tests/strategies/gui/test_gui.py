"""Blocking in a GUI's thread: its events go on, Ctrl-C arrives, and the end of the application is an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from guis import TOOLKITS, needs
from isolated import isolated

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("screen"), pytest.mark.parametrize("toolkit", TOOLKITS)]


@pytest.fixture(autouse=True)
def _is_here(toolkit: str) -> None:
    needs(toolkit)


# --- events go on


@isolated(timeout=40)
def test_timers_tick_while_blocked(toolkit: str) -> None:
    import asyncio
    import math
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)

    def rate(wait: Callable[[], object]) -> float:
        ticks: list[float] = []
        stop = gui.every(10, lambda: ticks.append(time.monotonic()))
        began = time.monotonic()
        wait()
        seconds = time.monotonic() - began
        stop()
        return len(ticks) / seconds

    def run() -> None:
        gui.after(1000, gui.stop)
        gui.run()

    rates: list[tuple[float, float]] = []
    for _ in range(10):
        rates.append((rate(lambda: block_on(asyncio.sleep(1))), math.inf))
        if rates[-1][0] >= 90:
            break
        # The machine is busy with something else; so is it then for the toolkit's own loop.
        rates[-1] = rates[-1][0], rate(run)
        if rates[-1][0] >= 0.9 * rates[-1][1]:
            break
    blocked, own = rates[-1]
    assert blocked >= 90 or blocked >= 0.9 * own, rates


@isolated(timeout=40)
def test_an_idle_wait_costs_nothing(toolkit: str) -> None:
    import asyncio
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    gui.show()
    block_on(asyncio.sleep(0.1), strategy=gui.strategy)
    used: list[float] = []
    for _ in range(3):  # a collection of garbage may come in one of them
        began = time.process_time()
        block_on(asyncio.sleep(2), strategy=gui.strategy)
        used.append(time.process_time() - began)
        if used[-1] < 0.01:
            break
    assert min(used) < 0.01, used


@isolated
def test_a_loop_inside_a_wait_that_is_not_ours_stays_idle(toolkit: str) -> None:
    """A dialog opened by a slot, while the call that waits outside it has ended."""
    import threading
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    go = threading.Event()
    spent: list[float] = []

    def dialog() -> None:
        go.set()  # the call ends in here
        began = time.process_time()
        if toolkit == "tk":
            done = gui.tkinter.BooleanVar(gui.root)
            gui.after(1000, lambda: done.set(True))
            gui.root.wait_variable(done)
        else:
            inner = gui.core.QEventLoop()
            gui.after(1000, inner.quit)
            inner.exec()
        spent.append(time.process_time() - began)

    async def until_go() -> str:
        import asyncio

        await asyncio.to_thread(go.wait)
        return "value"

    gui.after(50, dialog)
    assert block_on(until_go()) == "value"
    assert spent[0] < 0.3, spent


@isolated
def test_windows_are_painted_while_blocked(toolkit: str) -> None:
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    painted = threading.Event()
    if toolkit == "tk":
        canvas = gui.tkinter.Canvas(gui.root)
        canvas.bind("<Expose>", lambda _: painted.set())
        canvas.pack()
    else:

        class Painted(gui.widgets.QWidget):  # type: ignore[misc, name-defined]
            def paintEvent(self, event: object) -> None:
                painted.set()

        window = Painted()
        window.show()
    assert block_on(happens(painted, "painted")) == "painted"


# --- waits inside waits


@isolated
def test_waits_inside_waits_end_in_any_order(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    ended: list[str] = []
    begun: list[str] = []

    async def work(name: str, seconds: float, all_of_them: int) -> str:
        begun.append(name)
        while len(begun) < all_of_them:
            await asyncio.sleep(0.005)
        return await asyncio.sleep(seconds, name)

    def wait(name: str, seconds: float, all_of_them: int) -> None:
        ended.append(block_on(work(name, seconds, all_of_them)))

    for inner, outer in ((0.05, 0.2), (0.2, 0.05)):
        ended.clear()
        begun.clear()
        gui.after(10, lambda inner=inner: wait("inner", inner, 2))
        wait("outer", outer, 2)
        assert ended == ["inner", "outer"]

    ended.clear()
    begun.clear()
    for number, seconds in enumerate((0.3, 0.1, 0.2, 0.05)):
        gui.after(10 * number + 1, lambda number=number, seconds=seconds: wait(str(number), seconds, 5))
    wait("outer", 0.15, 5)
    assert sorted(ended) == ["0", "1", "2", "3", "outer"]
    assert ended[-1] == "outer"


@isolated
def test_a_wait_inside_a_wait_leaves_the_outer_one_its_notification(toolkit: str) -> None:
    import time

    from guis import make_gui

    from bridge import strategies

    gui = make_gui(toolkit)
    strategy = strategies()[gui.strategy]

    def wait() -> None:
        outer, middle, inner = strategy.waiter(), strategy.waiter(), strategy.waiter()

        def slot() -> None:
            gui.after(0, lambda: (outer.notify(), middle.notify(), inner.wait(0)))
            assert middle.wait(20) is True

        gui.after(50, slot)
        began = time.monotonic()
        assert outer.wait(20) is True
        assert time.monotonic() - began < 10

    for _ in range(3):
        wait()


@isolated
def test_blocks_in_a_slot_of_the_main_loop(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    results: list[object] = []

    def slot() -> None:
        results.append(block_on(asyncio.sleep(0.05, "value")))
        try:
            block_on(asyncio.sleep(5), timeout=0.05)
        except TimeoutError:
            results.append("in time")
        gui.stop()

    gui.after(0, slot)
    gui.run()
    assert results == ["value", "in time"]


@isolated(stderr=r".*LookupError: in a slot.*|", stdout=".*")
def test_an_error_of_a_slot_goes_where_the_toolkit_sends_it(toolkit: str) -> None:
    import sys
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    hooked: list[type[BaseException]] = []
    if toolkit == "PyQt6":  # which ends the process unless there is a hook
        sys.excepthook = lambda kind, error, traceback: hooked.append(kind)
    gui = make_gui(toolkit)

    called = threading.Event()

    def slot() -> None:
        gui.after(10, called.set)
        raise LookupError("in a slot")

    gui.after(10, slot)
    assert block_on(happens(called, "value")) == "value"
    assert hooked == ([LookupError] if toolkit == "PyQt6" else [])


# --- the end of the application


@isolated
def test_closing_the_last_window_is_an_error_in_the_blocked_call(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import BridgeError, block_on

    gui = make_gui(toolkit)
    gui.show()
    cleaned: list[bool] = []
    errors: list[BridgeError] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    def slot() -> None:
        gui.after(100, gui.close)
        try:
            block_on(work())
        except BridgeError as error:
            errors.append(error)

    gui.after(0, slot)
    gui.run()  # and ends
    assert type(errors[0]) is BridgeError
    assert "while block_on() waited" in str(errors[0])
    assert cleaned == [True]
    assert block_on(asyncio.sleep(0.01, "value")) == "value"


@isolated
def test_closing_the_last_window_where_no_main_loop_runs_is_an_error_too(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import BridgeError, block_on

    gui = make_gui(toolkit)
    gui.show()
    gui.after(200, gui.close)
    error = None
    try:
        block_on(asyncio.sleep(10))
    except BridgeError as raised:
        error = raised
    assert "while block_on() waited" in str(error)
    assert block_on(asyncio.sleep(0.01, "value")) == "value"


@isolated
def test_quitting_while_blocked(toolkit: str) -> None:
    import threading

    from guis import happens, make_gui

    from bridge import BridgeError, block_on

    gui = make_gui(toolkit)
    outcomes: list[object] = []
    stopped = threading.Event()

    def stop() -> None:
        gui.stop()
        if toolkit == "tk":  # else nothing ends the work but that
            stopped.set()

    def slot() -> None:
        gui.after(50, stop)
        try:
            outcomes.append(block_on(happens(stopped, "value")))
        except BridgeError as error:
            outcomes.append(type(error))

    gui.after(0, slot)
    gui.run()
    # Tk does not tell whether quit() was called.
    assert outcomes == (["value"] if toolkit == "tk" else [BridgeError])


@isolated
def test_windows_may_go_if_the_application_stays(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    gui.show()
    if toolkit == "tk":
        gui.after(50, gui.root.withdraw)
    else:
        gui.application.setQuitOnLastWindowClosed(False)
        gui.after(50, gui.close)
    assert block_on(asyncio.sleep(0.3, "value")) == "value"


@isolated
def test_notifying_after_the_application_is_gone_does_no_harm(toolkit: str) -> None:
    import asyncio

    from guis import make_gui

    from bridge import Bridge, strategies

    gui = make_gui(toolkit)
    strategy = strategies()[gui.strategy]
    given_up, waited_for = strategy.waiter(), strategy.waiter()
    assert given_up.wait(0.01) is False
    assert waited_for.wait(0.01) is False
    if toolkit == "tk":
        gui.root.destroy()
    elif toolkit == "PySide6":
        gui.application.shutdown()
    else:
        from PyQt6 import sip

        sip.delete(gui.application)
    del gui.__dict__["root" if toolkit == "tk" else "application"]
    given_up.notify()
    assert strategy.unavailable() is not None
    waited_for.notify()
    assert waited_for.wait(1) is True
    with Bridge(install_reactor=False) as each:
        assert each.block_on(asyncio.sleep(0.01, "value")) == "value"  # auto has gone back to a lock


@isolated
def test_notifies_from_any_thread_before_the_wait_and_after_it(toolkit: str) -> None:
    import threading

    from guis import make_gui

    from bridge import strategies

    gui = make_gui(toolkit)
    strategy = strategies()[gui.strategy]
    for early in (True, False) * 50:
        waiter = strategy.waiter()
        thread = threading.Thread(target=waiter.notify)
        thread.start()
        if early:
            thread.join()
        assert waiter.wait(5) is True
        thread.join()
    given_up = [strategy.waiter() for _ in range(100)]
    for waiter in given_up:
        assert waiter.wait(0) is False
        waiter.notify()
    assert strategy.waiter().wait(0.01) is False


# --- who uses it


@isolated
def test_auto_finds_it_in_the_main_thread_only(toolkit: str) -> None:
    import importlib

    from guis import make_gui
    from places import in_a_thread

    from bridge import StrategyUnavailable, block_on, strategies

    auto = strategies()["auto"]
    importlib.import_module("tkinter" if toolkit == "tk" else f"{toolkit}.QtCore")
    plain = type(strategies()["lock"].waiter())
    assert type(auto.waiter()) is plain  # there is a toolkit, and no application
    gui = make_gui(toolkit)
    strategy = strategies()[gui.strategy]
    assert type(auto.waiter()) is type(strategy.waiter()) is not plain
    assert type(in_a_thread(auto.waiter)) is plain
    assert in_a_thread(lambda: block_on(lambda: "value")) == "value"
    refusal = ""
    try:
        in_a_thread(lambda: block_on(lambda: "value", strategy=gui.strategy))
    except StrategyUnavailable as error:
        refusal = str(error)
    assert "in the main thread only" in refusal


@isolated
def test_auto_heeds_what_ipython_was_told(toolkit: str) -> None:
    import sys
    import types

    from guis import make_gui

    from bridge import strategies

    gui = make_gui(toolkit)
    shell = types.SimpleNamespace(active_eventloop=None)
    cls = types.SimpleNamespace(initialized=lambda: True, instance=lambda: shell)
    sys.modules["IPython.core.interactiveshell"] = types.SimpleNamespace(InteractiveShell=cls)  # type: ignore[assignment]
    auto = strategies()["auto"]
    for name in (None, "qt", "qt6", "tk", "asyncio"):
        shell.active_eventloop = name
        assert auto.waiter()._pump is strategies()[gui.strategy].waiter()._pump  # type: ignore[attr-defined]


@isolated
def test_a_forked_child_leaves_the_application_to_its_parent(toolkit: str) -> None:
    import asyncio
    import os
    import warnings

    from guis import make_gui

    from bridge import Bridge, strategies

    gui = make_gui(toolkit)
    strategy = strategies()[gui.strategy]
    assert strategy.unavailable() is None
    warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12, about a fork while there are threads
    child = os.fork()
    if child == 0:
        try:
            assert "was forked from" in (strategy.unavailable() or "")
            with Bridge(install_reactor=False) as each:
                assert each.block_on(asyncio.sleep(0.01, "value")) == "value"
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@isolated(timeout=40)
def test_a_wake_up_takes_little_longer_than_an_event_takes(toolkit: str) -> None:
    import statistics
    import threading
    import time

    from guis import make_gui

    from bridge import strategies

    gui = make_gui(toolkit)
    taken: dict[str, list[float]] = {"event": [], gui.strategy: []}

    class EventWaiter:
        def __init__(self) -> None:
            event = threading.Event()
            self.wait, self.notify = event.wait, event.set

    make = {"event": EventWaiter, gui.strategy: strategies()[gui.strategy].waiter}
    asked = threading.Semaphore(0)
    notify = notified_at = None

    def notifying() -> None:
        nonlocal notified_at
        while True:
            asked.acquire()
            if notify is None:
                return
            time.sleep(0.0005)  # until the other thread sleeps
            notified_at = time.perf_counter()
            notify()

    thread = threading.Thread(target=notifying)
    thread.start()
    # The best methods of those that were tried took 40 us and 67 us where an event took 24 us, and half as much more
    # is allowed. Of so many runs the best counts: a busy machine favours now the one, now the other.
    limit = (67 if toolkit == "tk" else 40) / 24 * 1.5
    ratios: list[float] = []
    for _ in range(20):
        for times in taken.values():
            times.clear()
        for _ in range(200):
            for name, times in taken.items():
                waiter = make[name]()
                notify = waiter.notify
                asked.release()
                assert waiter.wait(30)
                times.append(time.perf_counter() - notified_at)  # type: ignore[operator]
        ratios.append(statistics.median(taken[gui.strategy]) / statistics.median(taken["event"]))
        if ratios[-1] < limit:
            break
    notify = None
    asked.release()
    thread.join()
    assert ratios[-1] < limit, ratios
