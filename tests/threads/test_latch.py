"""The gate that callers wait at for the start and the end of a loop's thread."""

from __future__ import annotations

import random
import signal
import threading
import time

from isolated import isolated

from bridge._threads.latch import Latch


def test_an_open_gate_lets_pass_at_once() -> None:
    gate = Latch()
    assert not gate.is_open
    assert gate.wait(0) is False
    assert gate.wait(0.001) is False
    gate.open()
    assert gate.is_open
    assert gate.wait() is gate.wait(0) is True
    gate.open()


def test_everybody_who_waits_is_let_pass() -> None:
    for _ in range(50):
        gate, passed = Latch(), threading.Semaphore(0)
        waiting = [threading.Thread(target=lambda: gate.wait(10) and passed.release()) for _ in range(4)]  # noqa: B023
        for thread in waiting[:2]:
            thread.start()
        opening = threading.Thread(target=gate.open)
        opening.start()
        for thread in waiting[2:]:
            thread.start()
        for thread in [*waiting, opening]:
            thread.join()
        assert all(passed.acquire(timeout=0) for _ in waiting)


def test_who_waits_notices_a_gate_whose_opening_was_cut_off() -> None:
    """As by an exception that is set in the thread from outside: a close would wait its six seconds for it."""
    gate, passed = Latch(), threading.Semaphore(0)
    waiting = threading.Thread(target=lambda: gate.wait(60) and passed.release(), daemon=True)
    waiting.start()
    while not gate._locks:  # until it waits
        time.sleep(0.001)
    gate.is_open = True  # the first line of open()
    assert passed.acquire(timeout=10)
    waiting.join()


def test_ctrl_c_at_any_line_leaves_it_as_it_was() -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    main = threading.get_ident()
    interrupts = 0
    for _ in range(200):
        gate = Latch()
        ready = threading.Event()

        def interrupt(
            gate: Latch = gate, ready: threading.Event = ready, pause: float = chance.random() / 2000
        ) -> None:
            ready.wait()
            time.sleep(pause)
            signal.pthread_kill(main, signal.SIGINT)
            gate.open()

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            try:
                ready.set()
                while True:
                    gate.wait(0.0001)
            except KeyboardInterrupt:
                interrupts += 1
            assert gate.wait(10) is True
        finally:
            thread.join()
    assert interrupts == 200


@isolated(timeout=50)
def test_ctrl_c_while_a_loop_ends_does_not_start_another_beside_it() -> None:
    # On CPython 3.11 and 3.12 Thread.join() that is interrupted takes a thread that runs for ended.
    import asyncio
    import signal
    import threading
    import traceback

    import bridge
    from bridge._threads.native import current_frames

    main = threading.main_thread().ident
    assert main is not None

    def waits_for_the_end() -> bool:
        frame = current_frames()[main]
        return any(entry.name == "wait_ended" for entry in traceback.extract_stack(frame))

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            while not waits_for_the_end():
                await asyncio.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)
            while not interrupted.is_set():
                await asyncio.sleep(0.001)

    interrupted = threading.Event()
    for _ in range(3):
        interrupted.clear()
        one = bridge.default_bridge()
        one.block_on(lambda: asyncio.ensure_future(slow_to_end()) and None)
        dying = one.thread
        one.loop.call_soon_threadsafe(one.loop.stop)
        while one.running:
            pass
        try:
            bridge.block_on(asyncio.sleep(0))
        except KeyboardInterrupt:
            interrupted.set()
        else:
            raise AssertionError("not interrupted")
        assert bridge.block_on(asyncio.sleep(0, "next")) == "next"
        assert one.thread is not dying
        assert dying is not None
        dying.join(10)
        loops = [each for each in threading.enumerate() if each.name == "bridge"]
        assert loops == [one.thread], loops
