"""Ctrl-C and other signals while a GUI's thread is blocked, and what is put back after it."""

from __future__ import annotations

import pytest
from guis import TOOLKITS, needs
from isolated import isolated

pytestmark = [pytest.mark.usefixtures("screen"), pytest.mark.parametrize("toolkit", TOOLKITS)]


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
    caught = threading.Event()
    finished = threading.Event()

    def interrupting() -> None:
        nonlocal sent_at
        for _ in range(200):
            time.sleep(chance.uniform(0.0, 0.006))
            caught.clear()
            sent_at = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)
            assert caught.wait(20)
        finished.set()

    block_on(asyncio.sleep(0))  # which imports much, and Ctrl-C would leave files open
    thread = threading.Thread(target=interrupting, daemon=True)
    thread.start()
    interrupted = 0
    while not finished.is_set():
        try:
            while not finished.is_set():
                seconds = chance.choice([0.0, 0.001, 0.01])
                # Made on the loop: a coroutine made here would be lost if Ctrl-C came before it is handed over.
                block_on(lambda seconds=seconds: asyncio.sleep(seconds))  # type: ignore[misc]
        except KeyboardInterrupt:
            taken.append(time.perf_counter() - sent_at)
            interrupted += 1
            caught.set()
    thread.join()
    assert interrupted == 200
    assert ticks
    assert statistics.median(taken) < 0.005, statistics.median(taken)
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

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    seen: list[str] = []

    def slot() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            block_on(asyncio.sleep(10))
        except KeyboardInterrupt:
            seen.append("inner")

    gui.after(10, slot)
    assert block_on(asyncio.sleep(0.4, "outer")) == "outer"
    assert seen == ["inner"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@isolated
def test_a_second_ctrl_c_is_raised_in_a_slot_that_does_not_end(toolkit: str) -> None:
    import asyncio
    import os
    import signal
    import threading
    import time

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    stuck: list[str] = []

    def slot() -> None:
        for seconds in (0.1, 0.9):
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            for _ in range(1000):
                time.sleep(0.01)
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

    from guis import make_gui

    from bridge import block_on

    make_gui(toolkit)
    called: list[int] = []

    def handler(number: int, frame: object) -> None:
        called.append(number)

    signal.signal(signal.SIGINT, handler)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert block_on(asyncio.sleep(0.2, "value")) == "value"
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

    from guis import make_gui

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
    for x, expected in ((failing, LookupError), (lambda: asyncio.sleep(5), TimeoutError)):
        try:
            block_on(x, timeout=0.1)
        except expected:
            check()
        else:
            raise AssertionError
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, handler)
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        try:
            block_on(asyncio.sleep(5))
        except KeyboardInterrupt:
            check(bytes([number]))
        else:
            raise AssertionError

    # A slot sets a handler, and a closed descriptor: what it has set stays.
    def other(number: int, frame: object) -> None:
        pass

    gui.after(10, lambda: signal.signal(signal.SIGINT, other) and None)
    block_on(asyncio.sleep(0.1))
    assert signal.getsignal(signal.SIGINT) is other
    gui.after(10, theirs.close)
    block_on(asyncio.sleep(0.1))
    assert signal.set_wakeup_fd(-1) == -1
    ours.close()


@isolated
def test_a_handler_that_somebody_kept_works_after_the_wait(toolkit: str) -> None:
    import asyncio
    import signal

    from guis import make_gui

    from bridge import block_on

    gui = make_gui(toolkit)
    kept: list[object] = []
    gui.after(10, lambda: kept.append(signal.getsignal(signal.SIGINT)))
    block_on(asyncio.sleep(0.1))
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
