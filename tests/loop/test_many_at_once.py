"""Many connections whose callbacks block at once, as a server's under load: what each costs does not grow with them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from points import interrupt

import bridge._loop.switching as switching
from bridge import block_on
from bridge._loop.forwarding import start_runner
from bridge._loop.streams import ReaderHandle
from bridge._loop.switching import SwitchingLoop

MANY = 100


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(MANY)]
        for each in made:
            for end in each:
                end.setblocking(False)
                stack.enter_context(end)
        yield made


class Requests:
    """Readers that block until all that have come are released; then each has another byte to read, for some rounds."""

    def __init__(self, loop: SwitchingLoop, pairs: list[tuple[socket.socket, socket.socket]], rounds: int) -> None:
        self.loop = loop
        self.left = rounds * len(pairs)
        self.unsent = self.left - len(pairs)
        self.waiting: list[asyncio.Future[None]] = []
        self.done: asyncio.Future[None] = loop.create_future()
        for here, there in pairs:
            loop.add_reader(here, self.read, here, there)
            there.send(b"x")

    def read(self, here: socket.socket, there: socket.socket) -> None:
        assert here.recv(2) == b"x"
        future = self.loop.create_future()
        self.waiting.append(future)
        if len(self.waiting) == 1:
            self.loop.call_soon(self.release)
        block_on(future)
        self.left -= 1
        if self.unsent:
            self.unsent -= 1
            there.send(b"x")
        if not self.left:
            self.done.set_result(None)

    def release(self) -> None:
        released, self.waiting = self.waiting, []
        for each in released:
            each.set_result(None)


async def answered(loop: SwitchingLoop, pairs: list[tuple[socket.socket, socket.socket]], rounds: int) -> None:
    await Requests(loop, pairs, rounds).done
    for here, _ in pairs:
        loop.remove_reader(here)


def test_an_event_is_reported_once_though_each_callback_blocks(
    loop: SwitchingLoop, pairs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    selector: Any = loop._ours.streams.selector
    select = selector.select
    reported = 0

    def counting(timeout: float | None = None) -> Any:
        nonlocal reported
        events = select(timeout)
        reported += len(events)
        return events

    monkeypatch.setattr(selector, "select", counting)
    loop.run_until_complete(answered(loop, pairs, 3))
    assert 3 * MANY <= reported <= 6 * MANY  # if it were for each block: some 3 * MANY * MANY / 2
    assert loop._ours.streams.queued == 0


class Counting:
    """A selector round another one, as a program may put in the place of a loop's."""

    def __init__(self, selector: Any) -> None:
        self.selector = selector
        self.reported = 0

    def select(self, timeout: float | None = None) -> Any:
        events = self.selector.select(timeout)
        self.reported += len(events)
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self.selector, name)


def test_a_selector_that_the_program_has_set_stays(loop: SwitchingLoop, pairs: list[Any]) -> None:
    loop._selector = counting = Counting(loop._selector)
    loop.run_until_complete(answered(loop, pairs, 3))
    assert loop._selector is counting
    assert counting.reported >= 3 * MANY


def test_an_event_that_ctrl_c_cut_off_is_reported_again(loop: SwitchingLoop, pairs: list[Any]) -> None:
    read: list[object] = []
    for here, there in pairs[:3]:
        loop.add_reader(here, lambda here=here: (here.recv(1), read.append(here), block_on(asyncio.sleep(0))))
        there.send(b"x")

    async def until_read() -> None:
        while len(read) < 3:
            await asyncio.sleep(0)

    work = until_read()
    # As the handle's method is called, which the loop has taken out of its queue.
    assert interrupt(lambda: loop.run_until_complete(work), 1, ReaderHandle._run)
    loop.run_until_complete(asyncio.wait_for(until_read(), 10))
    assert len(set(read)) == len(read) == 3
    loop.run_until_complete(asyncio.sleep(0))
    assert loop._ours.streams.queued == 0


def test_stream_that_is_removed_with_its_event_queued_lets_the_loop_poll(loop: SwitchingLoop, pairs: list[Any]) -> None:
    first, second, third = (here for here, _ in pairs[:3])
    read: list[str] = []

    def reads_first() -> None:
        first.recv(1)
        loop.remove_reader(second)
        pairs[2][1].send(b"x")
        block_on(asyncio.sleep(0))
        read.append("first")

    def reads_third() -> None:
        read.append("third")
        loop.remove_reader(third)

    async def main() -> None:
        for here, read_it in ((first, reads_first), (second, reads_third), (third, reads_third)):
            loop.add_reader(here, read_it)
        for _, there in pairs[:2]:
            there.send(b"x")
        while len(read) < 2:
            await asyncio.sleep(0)
        loop.remove_reader(first)

    loop.run_until_complete(asyncio.wait_for(main(), 10))
    assert sorted(read) == ["first", "third"]
    assert loop._ours.streams.queued == 0


def test_runners_are_used_again_and_end_when_nobody_needs_them(
    loop: SwitchingLoop, pairs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0

    def counting(*args: Any) -> Any:
        nonlocal started
        started += 1
        return start_runner(*args)

    monkeypatch.setattr(switching, "start_runner", counting)

    async def main() -> None:
        await answered(loop, pairs, 10)
        assert len(loop._stacks.parked) > MANY / 2
        monkeypatch.setattr(switching, "_SPARE_AFTER", 0.01)
        give_up = time.monotonic() + 20
        while len(loop._stacks.parked) > switching._POOL:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)
        assert loop._stacks.trimming is None

    loop.run_until_complete(main())
    assert started <= 2 * MANY  # of 10 * MANY blocks


def test_no_more_runners_are_kept_than_the_most(
    loop: SwitchingLoop, pairs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "_MOST", MANY // 4)

    async def main() -> None:
        await answered(loop, pairs, 1)
        await asyncio.sleep(0)
        assert switching._POOL < len(loop._stacks.parked) <= MANY // 4

    loop.run_until_complete(main())
    assert not loop._stacks.parked
    assert loop._stacks.trimming is None
