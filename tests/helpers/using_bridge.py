"""What goes on to work when a private name is lost, and what says that it does not. For renamed.py."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import bridge
from bridge._private import rows
from bridge._private.abilities import lost, why_lost

PATIENCE = 10.0  # seconds


def use(names: list[Any], change: str) -> None:
    """Call from a plain thread what public names are enough for; then what the abilities of the rows are for."""
    assert bridge.block_on(value(), timeout=PATIENCE) == "value"
    assert bridge.block_on(deferred, timeout=PATIENCE) == "fired"
    assert round_trip() == b"echo"
    errors: list[BaseException] = []

    def in_thread() -> None:
        try:
            assert bridge.block_on(value(), timeout=PATIENCE) == "value"
            assert round_trip() == b"echo"
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not errors, errors
    assert use_where_twisted_is_loaded() == ["value", "value"]
    for row in names:
        if row.passed or change == "gone":
            look(row, change)


def look(row: Any, change: str) -> None:
    """See that the row's ability is off and says so, or that it is there if the change is an optional parameter."""
    fault = f"{row} takes other arguments" if change == "required" else f"{row} is missing"
    if change == "optional":
        assert not lost(row.ability), lost(row.ability)
    else:
        assert fault in lost(row.ability), lost(row.ability)
    reason = why_lost(row.ability)
    assert (reason is None) is (change == "optional"), reason
    if reason is not None:
        assert fault in reason
        assert "pip install --upgrade" in reason
    trial = TRIALS.get(row.ability)
    if trial is not None:
        said = refusal(trial)
        if change == "optional":
            assert said is None, said
        else:
            assert said is not None
            assert fault in said, said


def say_that_it_has_gone(row: Any) -> None:
    """Let the row of a name be missing, though the library has it."""
    fault = rows.Name.fault
    place = row.owner, row.name
    rows.Name.fault = lambda self: f"{self} is missing" if (self.owner, self.name) == place else fault(self)  # type: ignore[method-assign]


def refusal(trial: Callable[[], object]) -> str | None:
    """Return the message with which the trial is refused, None if it works."""
    try:
        trial()
    except bridge.StrategyUnavailable as error:
        return str(error)
    return None


async def value() -> str:
    await asyncio.sleep(0.001)
    return "value"


def deferred() -> Any:
    from twisted.internet.defer import Deferred

    fired: Deferred[str] = Deferred()
    asyncio.get_running_loop().call_later(0.001, fired.callback, "fired")
    return fired


def use_where_twisted_is_loaded() -> list[str]:
    """Run loops that look for a reactor as they start, since Twisted has been imported."""
    with bridge.Bridge(install_reactor=False) as other:
        first = other.block_on(value(), timeout=PATIENCE)
    loop = bridge.new_event_loop()  # not by a Runner: that asks for the repr of a task, whose names in C are unchanged
    try:
        return [first, loop.run_until_complete(value())]
    finally:
        loop.close()


def need_the_reactor() -> None:
    """Use the reactor; without ours an import of it gives Twisted's."""
    try:
        reactor = bridge.default_bridge().reactor
    except bridge.StrategyUnavailable:
        reactor = None
    from twisted.internet import reactor as installed

    assert (installed is reactor) if reactor is not None else type(installed).__module__.startswith("twisted.")
    assert bridge.block_on(value(), timeout=PATIENCE) == "value"
    assert bridge.default_bridge().reactor is installed


def round_trip() -> bytes:
    """Talk to a server in a thread of its own, over a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        reader, writer = bridge.block_on(asyncio.open_connection(*server.getsockname()), timeout=PATIENCE)

        async def talk() -> bytes:
            writer.write(b"echo")
            got = await reader.read(100)
            writer.close()
            await writer.wait_closed()
            return got

        got: bytes = bridge.block_on(talk(), timeout=PATIENCE)
        thread.join(PATIENCE)
        return got


def block_on_the_loop() -> None:
    """Block in a task."""

    async def blocking() -> None:
        await asyncio.sleep(0)
        assert bridge.block_on(value(), timeout=PATIENCE) == "value"

    bridge.block_on(blocking(), timeout=PATIENCE)


def wait_for_futures() -> None:
    """Wait for Futures."""
    done, _ = bridge.wait([bridge.submit(value()) for _ in range(2)], timeout=PATIENCE)
    assert [each.result() for each in done] == ["value", "value"]


def call_in_anyio_worker() -> None:
    """Call from a worker thread of anyio's."""
    import anyio.to_thread

    bridge.block_on(anyio.to_thread.run_sync(lambda: bridge.block_on(value())), timeout=PATIENCE)


def attach_to_a_reactor() -> None:
    """Attach to a reactor that has no loop."""
    from twisted.internet.selectreactor import SelectReactor

    bridge.Bridge.attach(SelectReactor()).close()


def leave_a_thread_blocked() -> None:
    """Leave a thread behind that Python joins as it exits, and that waits in a call without an end."""

    def wait() -> None:
        with suppress(bridge.BridgeClosed):
            bridge.block_on(asyncio.Event().wait())

    bridge.configure(exit_grace=0.1)
    bridge.block_on(value())
    threading.Thread(target=wait).start()


TRIALS: dict[str, Callable[[], object]] = {
    rows.SWITCHING: block_on_the_loop,
    rows.FUTURES: wait_for_futures,
    rows.FOREIGN_REACTORS: attach_to_a_reactor,
    rows.SCOPES: call_in_anyio_worker,
    rows.EVENTS: lambda: bridge.block_on(value(), strategy="event", timeout=PATIENCE),
    rows.REACTOR: need_the_reactor,
}
