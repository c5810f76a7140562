"""What an argument makes in the caller's thread, on a loop that does not run or stands still: refused, or explained.

The asyncio half of the thread trap: arguments are evaluated before the call.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from dumps import Records, dumped_with
from dumps import records as records
from isolated import isolated
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed

from bridge import Bridge, BridgeError, DeadlockError, new_event_loop, submit

PATIENCE = 10.0


@pytest.fixture
def idle() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of this thread that nobody runs, as asyncio.get_event_loop() returned one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


class Client:
    """A client as of asyncpg, aiohttp or redis: awaitable, and bound to the loop that its maker names."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *options: str) -> None:
        self._loop = loop

    def __await__(self) -> Generator[Any, None, str]:
        return self.get().__await__()

    async def get(self) -> str:
        await self._loop.create_future()
        return "never"


def crawl(loop: asyncio.AbstractEventLoop) -> Deferred[Any]:
    """Return a Deferred that waits for a Future in the way that Scrapy's does: through two generators."""

    @inlineCallbacks
    def outer() -> Generator[Deferred[Any], Any, Any]:
        return (yield inner())

    @inlineCallbacks
    def inner() -> Generator[Deferred[Any], Any, Any]:
        return (yield Deferred.fromFuture(loop.create_future()))

    return outer()


def chained(loop: asyncio.AbstractEventLoop) -> Deferred[Any]:
    return succeed(None).addCallback(lambda _: crawl(loop))


def test_work_of_a_loop_that_does_not_run_is_refused_with_the_form_that_works(
    bridge: Bridge, idle: asyncio.AbstractEventLoop
) -> None:
    for call, form in (
        (lambda: bridge.block_on(Client(idle), timeout=9), "bridge.block_on(lambda: Client(idle), timeout=9)"),
        (lambda: bridge.block_on(crawl(idle)), "bridge.block_on(lambda: crawl(idle))"),
        (lambda: bridge.submit(chained(idle)), "bridge.submit(lambda: chained(idle))"),
        (lambda: submit(idle.create_future()), "submit(lambda: idle.create_future())"),
        (
            lambda: bridge.block_on(Client(idle, "an option that is longer than anybody wants to read", "and another")),
            "bridge.block_on(lambda: Client(idle, ...))",
        ),
    ):
        with pytest.raises(BridgeError, match="bound to a loop that does not run") as caught:
            call()
        assert str(caught.value).endswith(f"let the bridge make it on its own loop: {form}\n[bridge: loop-not-running]")
    deferred = crawl(idle)
    with pytest.raises(
        BridgeError, match=r"<Deferred .* waits for <Future pending.* is bound to .*block_on\(coroutine"
    ):
        bridge.block_on(deferred)
    assert bridge.block_on(asyncio.sleep(0, "works")) == "works"
    idle.close()
    with pytest.raises(BridgeError, match="is bound to a loop that is closed"):
        bridge.block_on(Client(idle))


def test_work_of_the_loop_that_runs_in_this_thread_is_refused(bridge: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make in (Client, crawl, chained):
            with pytest.raises(DeadlockError, match=r"runs in this very thread.*write 'await'.*lambda: make\(loop\)"):
                bridge.block_on(make(loop))
        assert await asyncio.to_thread(bridge.block_on, asyncio.sleep(0, "works")) == "works"

    asyncio.run(main())


def test_work_that_a_loop_still_ends_is_waited_for(bridge: Bridge, idle: asyncio.AbstractEventLoop) -> None:
    loop = bridge.loop
    futures: list[asyncio.Future[str]] = []

    def make() -> list[Deferred[Any]]:
        futures[:] = [loop.create_future() for _ in range(2)]
        loop.call_later(0.05, lambda: [each.set_result("value") for each in futures])
        return [Deferred.fromFuture(futures[0]), succeed(None).addCallback(lambda _: Deferred.fromFuture(futures[1]))]

    for deferred in bridge.block_on(lambda: tuple(make())):
        assert bridge.block_on(deferred, timeout=PATIENCE) == "value"
    # A Deferred that has its result needs no loop any more, and one that waits for several may need none of them.
    done: asyncio.Future[str] = idle.create_future()
    done.set_result("done")
    waiting = Deferred.fromFuture(done)
    idle.run_until_complete(asyncio.sleep(0))
    assert bridge.block_on(waiting) == "done"
    first = DeferredList([crawl(idle), succeed("first")], fireOnOneCallback=True)
    assert bridge.block_on(first) == ("first", 1)


def test_an_object_of_a_bridges_own_loop_is_awaited_in_any_place() -> None:
    class Ready(Client):
        async def get(self) -> str:
            return "ready"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Bridge("other", install_reactor=False) as other:
            assert other.block_on(Ready(other.loop)) == "ready"
            assert await other.call(Ready(other.loop)) == "ready"
        from bridge import block_on

        assert block_on(Ready(loop)) == "ready"

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def test_attributes_of_an_object_are_read_without_calling_its_code(
    bridge: Bridge, idle: asyncio.AbstractEventLoop
) -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} would be asked for over the network")

        @property
        def loop(self) -> Any:
            raise AssertionError("a property that makes a loop")

        def __await__(self) -> Generator[Any, None, str]:
            return asyncio.sleep(0, "value").__await__()

    assert bridge.block_on(Proxy()) == "value"

    class Slotted:
        __slots__ = ("_loop",)

        def __await__(self) -> Generator[Any, None, str]:
            return asyncio.sleep(0, "value").__await__()

    class Refusing:
        """As werkzeug's LocalProxy outside a request."""

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("working outside of request context")

        def __await__(self) -> Generator[Any, None, str]:
            return asyncio.sleep(0, "value").__await__()

    assert bridge.block_on(Refusing()) == "value"

    slotted = Slotted()
    assert bridge.block_on(slotted) == "value"
    slotted._loop = idle
    with pytest.raises(BridgeError, match="does not run"):
        bridge.block_on(slotted)


def test_an_error_because_of_another_loop_carries_a_note(bridge: Bridge, idle: asyncio.AbstractEventLoop) -> None:
    client = Client(idle)
    for call in (
        lambda: bridge.block_on(client.get()),
        lambda: bridge.submit(client.get()).result(PATIENCE),
        lambda: bridge.block_on(lambda: client.get()),
    ):
        with pytest.raises(RuntimeError, match="attached to a different loop") as caught:
            call()
        (note,) = caught.value.__notes__
        assert note.startswith("The Client that was used here is bound to another loop, which does not run.")
        assert "block_on(lambda: ...)" in note
    with Bridge("other", install_reactor=False) as other:
        with pytest.raises(RuntimeError, match="attached to a different loop") as caught:
            bridge.block_on(Client(other.loop).get())
        assert "bound to another loop, which runs in another thread" in caught.value.__notes__[0]

        # An error of the object's own loop has nothing to do with that.
        class Broken(Client):
            async def get(self) -> str:
                raise RuntimeError("broken")

        async def task() -> asyncio.Task[str]:
            return asyncio.create_task(Broken(other.loop).get())

        for work in (Broken(other.loop).get(), other.block_on(task())):
            with pytest.raises(RuntimeError, match="broken") as caught:
                (other if asyncio.iscoroutine(work) else bridge).block_on(work)
            assert not hasattr(caught.value, "__notes__")


def test_a_deferred_that_found_no_loop_carries_a_note(bridge: Bridge) -> None:
    @inlineCallbacks
    def crawl_on_a_running_loop() -> Generator[Deferred[Any], Any, Any]:
        return (yield Deferred.fromFuture(asyncio.get_running_loop().create_future()))

    with pytest.raises(RuntimeError, match="no running event loop") as caught:
        bridge.block_on(crawl_on_a_running_loop())
    assert caught.value.__notes__[0].endswith("Let the bridge's loop call it: block_on(lambda: ...)")


# --- reports


def test_a_report_names_a_loop_that_does_not_run(bridge: Bridge, idle: asyncio.AbstractEventLoop) -> None:
    work = bridge.submit(lambda: crawl(idle))
    shown = dumped_with("that loop does not run: it can never finish. Make it on the bridge's loop")
    assert re.search(r"<Future pending.*\n  \(which is bound to <_UnixSelectorEventLoop running=False", shown)
    work.cancel()
    gc.collect()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_report_names_the_loop_of_the_thread_that_is_blocked(kind: str, records: Records) -> None:
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if kind == "uvloop":
        make = pytest.importorskip("uvloop").new_event_loop

    async def main() -> None:
        with Bridge("impatient", install_reactor=False, stall_after=0.05) as impatient:
            impatient.block_on(asyncio.to_thread(records.wait_for, 1))

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())
    (shown,) = records.texts
    assert re.search(
        r"meanwhile <.*Loop running=True.*>, which that thread runs, stands still; .*'await bridge.call", shown
    )


@isolated(stderr=".*")
def test_a_report_names_a_reactor_that_nobody_runs() -> None:
    import asyncio
    import io

    import bridge

    async def main() -> None:
        attached = bridge.Bridge.attach()
        from twisted.internet import reactor, task

        waiting = attached.submit(lambda: task.deferLater(reactor, 0.01, str))
        await asyncio.sleep(0)
        shown = io.StringIO()
        bridge.dump(shown)
        expected = f"the Deferred may wait for twisted.internet.reactor, of {type(reactor).__module__}."
        assert expected in shown.getvalue(), shown.getvalue()
        assert "bridge.new_event_loop" in shown.getvalue()
        waiting.cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
