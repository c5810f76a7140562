"""Ctrl-C and other signals while a GUI's thread is blocked, and what is put back after it."""

from __future__ import annotations

import pytest
from guis import TOOLKITS, needs
from isolated import isolated

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("screen"), pytest.mark.parametrize("toolkit", TOOLKITS)]


@pytest.fixture(autouse=True)
def _is_here(toolkit: str) -> None:
    needs(toolkit)


@isolated(timeout=50)
def test_no_ctrl_c_is_lost(toolkit: str) -> None:
    """200 of them at random moments, while timers tick and calls begin, wait and end."""
    import asyncio
    import os
    import random
    import signal
    import statistics
    import threading
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    ticks: list[None] = []
    gui.every(3, lambda: ticks.append(None))
    chance = random.Random(7)
    sent_at = 0.0
    taken: list[float] = []
    begun = threading.Semaphore(0)  # released where the next Ctrl-C is caught
    finished = threading.Event()

    def interrupting() -> None:
        nonlocal sent_at
        for _ in range(200):
            assert begun.acquire(timeout=20)
            time.sleep(chance.uniform(0.0, 0.006))
            sent_at = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)
        assert begun.acquire(timeout=20)
        finished.set()

    block_on(asyncio.sleep(0))  # which imports much, and Ctrl-C would leave files open
    thread = threading.Thread(target=interrupting, daemon=True)
    thread.start()
    interrupted = 0
    while not finished.is_set():
        try:
            begun.release()
            while not finished.is_set():
                seconds = chance.choice([0.0, 0.001, 0.01])
                # Made on the loop: a coroutine made here would be lost if Ctrl-C came before it is handed over.
                block_on(lambda seconds=seconds: asyncio.sleep(seconds))  # type: ignore[misc]
        except KeyboardInterrupt:
            taken.append(time.perf_counter() - sent_at)
            interrupted += 1
    thread.join()
    assert interrupted == 200
    assert ticks
    # Of a quarter of them: a busy machine lets this thread wait for a core.
    quickly = statistics.quantiles(taken)[0]
    assert quickly < 0.1, quickly  # where a wake-up that is lost takes a second
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


@isolated
def test_ctrl_c_in_a_slot_is_raised_where_the_call_waits(toolkit: str) -> None:
    import asyncio
    import signal
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    slot_ended: list[bool] = []

    def slot() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        slot_ended.append(True)

    for _ in range(5):
        slot_ended.clear()
        gui.after(10, slot)
        try:
            block_on(asyncio.sleep(10))
        except KeyboardInterrupt:
            assert slot_ended
        else:
            raise AssertionError


@isolated
def test_the_innermost_wait_takes_ctrl_c(toolkit: str) -> None:
    import asyncio
    import os
    import signal
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    seen: list[str] = []
    ended = threading.Event()

    def slot() -> None:
        gui.after(50, lambda: os.kill(os.getpid(), signal.SIGINT))  # which comes when the inner one waits
        try:
            block_on(asyncio.sleep(600))
        except KeyboardInterrupt:
            seen.append("inner")
        ended.set()

    gui.after(10, slot)
    assert block_on(happens(ended, "outer")) == "outer"
    assert seen == ["inner"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@isolated
def test_a_second_ctrl_c_is_raised_in_a_slot_that_does_not_end(toolkit: str) -> None:
    import asyncio
    import signal
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    stuck: list[str] = []

    def slot() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.6)  # longer than the first has patience
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            stuck.append("interrupted")

    gui.after(10, slot)
    try:
        block_on(asyncio.sleep(10))
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    assert stuck == ["interrupted"]


@isolated
def test_a_handler_of_the_users_is_called_and_the_wait_goes_on(toolkit: str) -> None:
    import asyncio
    import os
    import signal
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    make_gui(toolkit)
    called: list[int] = []
    handled = threading.Event()

    def handler(number: int, frame: object) -> None:
        called.append(number)
        handled.set()

    signal.signal(signal.SIGINT, handler)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert block_on(happens(handled, "value")) == "value"
    assert called == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert block_on(asyncio.sleep(0.2, "value")) == "value"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@isolated
def test_everything_is_put_back_on_every_path(toolkit: str) -> None:
    import asyncio
    import os
    import signal
    import socket
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handler)
    signal.set_wakeup_fd(theirs.fileno())
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def check(numbers: bytes = b"") -> None:
        assert signal.getsignal(signal.SIGINT) is handler
        assert signal.set_wakeup_fd(theirs.fileno()) == theirs.fileno()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        try:
            heard = ours.recv(100)
        except BlockingIOError:
            heard = b""
        assert heard == numbers  # signals rang the bell of whoever listened before

    async def failing() -> None:
        await asyncio.sleep(0.01)
        raise LookupError

    block_on(asyncio.sleep(0.05))
    check()
    for x, timeout, expected in ((failing, None, LookupError), (lambda: asyncio.sleep(600), 0.1, TimeoutError)):
        try:
            block_on(x, timeout=timeout)
        except expected:
            check()
        else:
            raise AssertionError

    async def sending(number: int) -> None:  # when the caller waits, most likely
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), number)
        await asyncio.sleep(600)

    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, handler)
        try:
            block_on(sending(number))
        except KeyboardInterrupt:
            check(bytes([number]))
        else:
            raise AssertionError

    # A slot sets a handler, and a closed descriptor: what it has set stays.
    def other(number: int, frame: object) -> None:
        pass

    for change in (lambda: signal.signal(signal.SIGINT, other), theirs.close):
        changed = threading.Event()
        gui.after(10, lambda change=change, changed=changed: (change(), changed.set()))
        block_on(happens(changed))
        assert signal.getsignal(signal.SIGINT) is other
    assert signal.set_wakeup_fd(-1) == -1
    ours.close()


@pytest.mark.parametrize("where", ["begin", "end", "run", "undo"])
@isolated
def test_an_interrupt_at_every_point_puts_everything_back(toolkit: str, where: str) -> None:
    import asyncio
    import os
    import signal
    import types
    from typing import Any

    from guis import make_gui
    from points import interrupt

    from bridge import block_on, strategies
    from bridge.strategies.gui import Interrupts

    gui = make_gui(toolkit)
    block_on(asyncio.sleep(0.01))
    pump = strategies()["auto"].waiter()._pump  # type: ignore[attr-defined]
    run = type(pump).run
    undo = types.SimpleNamespace(
        __code__=next(each for each in run.__code__.co_consts if getattr(each, "co_name", "") == "end")
    )
    within: Any = {"begin": Interrupts.begin, "end": Interrupts.end, "run": run, "undo": undo}[where]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    at, point = 0, "the first"
    while point:
        at += 1
        work = asyncio.sleep(0.05)  # long enough to be waited for
        point = interrupt(lambda: block_on(work, strategy=gui.strategy), at, within)  # noqa: B023
        work.close()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, point
        assert signal.set_wakeup_fd(write_end) == write_end, point
        assert block_on(asyncio.sleep(0.001, "value")) == "value"
    assert at > 1
    assert signal.set_wakeup_fd(-1) == write_end
    os.close(read_end)
    os.close(write_end)


@isolated
def test_the_number_of_a_signal_that_a_wait_inside_a_wait_hears_is_handed_on(toolkit: str) -> None:
    import os
    import signal
    import socket
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    handled, slot_ended = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: handled.set())
    signal.set_wakeup_fd(theirs.fileno())

    def slot() -> None:
        gui.after(10, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        block_on(happens(handled))
        slot_ended.set()

    gui.after(10, slot)
    block_on(happens(slot_ended))
    assert signal.set_wakeup_fd(-1) == theirs.fileno()
    ours.settimeout(10)
    assert ours.recv(100) == bytes([signal.SIGUSR1])
    ours.close()
    theirs.close()


@isolated
def test_a_handler_that_somebody_kept_works_after_the_wait(toolkit: str) -> None:
    import asyncio
    import signal
    import threading

    from guis import happens, make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    kept: list[object] = []
    is_kept = threading.Event()

    def keep() -> None:
        kept.append(signal.getsignal(signal.SIGINT))
        is_kept.set()

    gui.after(10, keep)
    block_on(happens(is_kept))
    signal.signal(signal.SIGINT, kept[0])  # type: ignore[arg-type]
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    for _ in range(2):
        try:
            block_on(lambda: signal.raise_signal(signal.SIGINT) or asyncio.sleep(5))
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
