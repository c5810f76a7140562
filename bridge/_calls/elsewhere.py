"""call: await a bridge's work in a coroutine on another loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from .._errors import BridgeError, at
from .._loop.task import set_once
from .._runs.run import Owner
from .._values.kinds import describe, discard
from .submit import WorkFuture, submit


async def call(bridge: Owner, x: Any) -> Any:
    """Await x on the bridge's loop; :meth:`bridge.Bridge.call` has the contract."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        discard(x)
        raise BridgeError(
            f"bridge.call({describe(x)}) is for coroutines on an asyncio loop, and no asyncio loop runs here; write "
            "block_on(x) in a worker thread" + at("no-asyncio-loop")
        ) from None
    try:
        run = bridge.last_run
        if run is None or run.over is not None:
            # The start takes as long as Twisted's imports take, and this loop would stand still.
            await loop.run_in_executor(None, bridge.current_run)
        future = submit(bridge, x)
    except BaseException:
        discard(x)
        raise
    cancelled: list[asyncio.CancelledError] = []
    try:
        while not future.done():
            # Every cancellation is a request to the work. Its cleanup, or its result all the same, is waited for.
            with _shield() if cancelled else contextlib.nullcontext():
                try:
                    await _end_of(future, loop)
                except asyncio.CancelledError as error:
                    cancelled.append(error)
                    future.cancel()
        if cancelled and future.cancelled():
            raise cancelled[0]
        return future.result()
    finally:
        # Or an error's traceback, which holds this frame, would form a reference cycle.
        cancelled.clear()
        del future


def _shield() -> Any:
    """Return a scope in which anyio does not repeat the cancellation, as it does for each await until its scope ends.

    A cancellation of the task itself is still raised.
    """
    if "anyio" not in sys.modules:  # then no scope of anyio's has cancelled the task
        return contextlib.nullcontext()
    from anyio import CancelScope

    return CancelScope(shield=True)


async def _end_of(future: WorkFuture, loop: asyncio.AbstractEventLoop) -> None:
    """Return when the Future has ended."""
    ended: asyncio.Future[None] = loop.create_future()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: its task does not wait any more
            loop.call_soon_threadsafe(set_once, ended)

    future.add_done_callback(tell)
    await ended
