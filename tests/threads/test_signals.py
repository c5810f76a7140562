"""How a thread waits, and looks up for signals meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from bridge._threads import signals
from bridge._threads.lock_waiter import Alarm, LockWaiter


class Recording:
    """A waiter that notes its time-outs."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []
        self.inner = LockWaiter()

    def wait(self, timeout: float | None) -> bool:
        self.timeouts.append(timeout)
        return self.inner.wait(timeout)


def in_a_thread(function: object) -> None:
    thread = threading.Thread(target=function)  # type: ignore[arg-type]
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_the_main_thread_waits_in_slices_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "LOOK_UP", 0.01)
    waiter = Recording()
    began = time.monotonic()
    assert signals.wait_looking_up(waiter, 0.05) is False
    assert time.monotonic() - began >= 0.05
    assert len(waiter.timeouts) > 1  # five, on an idle machine
    assert all(timeout is not None and timeout <= 0.01 for timeout in waiter.timeouts)
    threading.Timer(0.03, waiter.inner.notify).start()
    assert signals.wait_looking_up(waiter, None) is True
    waiter = Recording()
    in_a_thread(lambda: signals.wait_looking_up(waiter, 0.05))
    assert waiter.timeouts == [0.05]


def test_a_waiter_that_does_not_sleep_gets_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "LOOK_UP", 0.01)

    class Busy(Recording):
        sleeps = False

    waiter = Busy()
    assert signals.wait_looking_up(waiter, 0.05) is False
    assert waiter.timeouts == [0.05]


def test_a_waiter_with_a_clock_of_its_own_ends_a_wait_with_a_time_out() -> None:
    class Impatient(Recording):
        def wait(self, timeout: float | None) -> bool:
            super().wait(0.01)
            self.timeouts[-1] = timeout
            return len(self.timeouts) == 3

    waiter = Impatient()
    assert signals.wait_looking_up(waiter, 30) is False
    assert waiter.timeouts == [1.0]
    assert signals.wait_looking_up(waiter, None) is True
    assert waiter.timeouts == [1.0] * 3


@pytest.mark.parametrize(("timeout", "given"), [(-1, 0), (0, 0), (1e300, threading.TIMEOUT_MAX)])
def test_any_time_out_can_be_waited_for(timeout: float, given: float) -> None:
    waiter = Recording()
    waiter.inner.notify()
    in_a_thread(lambda: signals.wait_looking_up(waiter, timeout))
    assert waiter.timeouts == [given]


def test_an_alarm_that_rings_several_times_ends_one_wait() -> None:
    alarm = Alarm()
    assert alarm.wait(0) is False
    for _ in range(3):
        alarm.ring()
    assert alarm.wait(None) is True
    assert alarm.wait(0) is False
    alarm.ring()
    assert alarm.wait(0) is True
