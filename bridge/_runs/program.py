"""Loops that the program runs itself, in a thread of its choice: their reactors, and calls from other threads."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from .._errors import BridgeError, at
from .._loop.base import BridgeLoop
from .._loop.posting import way_to
from .._loop.switching import SwitchingLoop
from .._private.abilities import lost
from .._private.cpython import get_running_loop
from .._private.rows import REACTOR, SWITCHING
from .._threads import native
from .._threads.condition import new_lock
from .._twisted import arrival
from .attached import AttachedReactor, AttachedRun, ReactorLoop, runs_here, stand_in
from .states import SERVE

# Seconds between two checks that an attached loop of a foreign class still runs.
_CHECK = 0.05
# Held by a loop that begins to run, and while another takes its reactor.
_leaving = new_lock()


class WithReactor(BridgeLoop):
    """A loop that gets a reactor when it first runs if Twisted is loaded, else when a reactor is first needed.

    While the loop does not run, another one may take the installed reactor. Closing the loop shuts the reactor down.
    """

    @property
    def reactor(self) -> Any:
        """The reactor on the loop, None while there is none."""
        return self._ours.reactor

    @property
    def place(self) -> arrival.Place | None:
        """The place that holds the loop's reactor; None before the loop has run."""
        place: arrival.Place | None = self._ours.place
        return place

    def run_forever(self) -> None:
        """Run until stop() is called."""
        if self.is_running():
            super().run_forever()  # raises RuntimeError
            return
        with _leaving:
            self._ours.keeps_reactor = True
        try:
            if self._ours.reactor is None:
                self._look_for_twisted()
            else:
                self._ours.reactor.loop_thread = native.get_ident()  # the loop may have run in another thread before
            super().run_forever()
        finally:
            self._ours.keeps_reactor = False
            if self._ours.place is not None:
                self._ours.place.leave()

    def _look_for_twisted(self) -> None:
        place = self._ours.place
        if place is None:
            # gives_way: a program that runs its own reactor beside this loop needs none on it.
            place = self._ours.place = arrival.Place(self, None, self, self._take_reactor, gives_way=True)
        if not arrival.is_loaded():
            place.wait()  # sees imports from now on; Twisted may have been imported just before, so look again
        if arrival.is_loaded() and not lost(REACTOR):
            from .._twisted import reactor as reactors

            reactors.claim(self)
            place.build()
            # In the loop, because callbacks of the reactor's start may block; and before all other callbacks.
            self.call_soon(place.start)
            self.run_first()

    def _take_reactor(self, reactor: Any) -> None:
        self._ours.reactor = reactor
        reactor.leave = self._leave_reactor
        self._ours.before_block = reactor.keep_time

    def _leave_reactor(self) -> None:
        """Part from the reactor, unless the loop runs: another loop wants it. Any thread may call this."""
        from .._twisted import reactor as reactors

        with _leaving:
            reactor, place = self._ours.reactor, self._ours.place
            if self._ours.keeps_reactor or reactor is None:
                return
            self._ours.reactor = self._ours.place = self._ours.before_block = None
            place.end()
            reactors.part(reactor)

    def close(self) -> None:
        """Close the loop. Nothing that is queued or due is run, as in asyncio's.

        The shutdown triggers of the reactor are called; what they wait for is not, as no loop runs.
        """
        # The finalizer of a loop that was never closed calls this as the interpreter ends. Nothing can run then.
        if self.is_closed() or self.is_running() or sys.is_finalizing():
            super().close()  # which raises if the loop runs
            return
        reactor, place = self._ours.reactor, self._ours.place
        self._ours.reactor = self._ours.place = None  # the place refers to the loop
        if place is not None:
            place.end()
        if reactor is None:
            super().close()
            return
        from .._twisted import reactor as reactors

        reactor.on_crash = _do_nothing
        reactors.shut_down_now(reactor)
        super().close()
        reactors.release(reactor, self)


class ProgramLoop(WithReactor, SwitchingLoop):
    """The loop that :func:`bridge.new_event_loop` makes."""


def _do_nothing() -> None:
    pass


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop for the program to run; :func:`bridge.new_event_loop` has the contract."""
    return WithReactor() if lost(SWITCHING) else ProgramLoop()


def install() -> Any:
    """Install a reactor on a new loop of ours, for the program to run; :func:`bridge.install` has the contract."""
    from .._twisted import reactor as reactors

    arrival.tell()
    arrival.begin_awaits(None, None)  # at once, since Twisted is imported
    loop = BridgeLoop() if lost(SWITCHING) else SwitchingLoop()
    try:
        reactor = reactors.build(loop, True, loop)
    except BaseException:
        loop.close()
        raise
    loop.before_block = reactor.keep_time
    asyncio.set_event_loop(loop)
    return reactor


class AttachedLoop(AttachedRun):
    """The run of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shutdown_timeout: float) -> None:
        super().__init__(shutdown_timeout)
        self.loop = loop
        self.post, self._posts = way_to(loop, get_running_loop() is loop)
        self.move(SERVE)
        arrival.begin_awaits(self, None)
        if isinstance(loop, BridgeLoop):
            loop.at_stop.append(self._stopped)
        else:
            native.Thread(target=self._watch, name="bridge-watch", daemon=True).start()

    @property
    def name(self) -> str:
        """What to call the loop's thread in a log."""
        return f"of {self.loop!r}"

    @property
    def reactor(self) -> Any:
        """The Twisted reactor that runs on the loop, or None."""
        if isinstance(self.loop, WithReactor):
            return self.loop.reactor
        installed: Any = sys.modules.get("twisted.internet.reactor")
        return installed if getattr(installed, "_asyncioEventloop", None) is self.loop else None

    def needed_reactor(self) -> Any:
        """Return the reactor on the loop. A loop of ours makes one if it has none."""
        place = self.loop.place if isinstance(self.loop, WithReactor) else None
        return self.reactor if place is None else place.get(lambda: self.state.is_over)

    def detach(self, reason: str) -> None:
        """Fail the open calls and refuse further ones."""
        super().detach(reason)
        arrival.end_awaits(self)
        if self._posts is not None:
            self._posts.close_soon()
        if isinstance(self.loop, BridgeLoop):
            with contextlib.suppress(ValueError):
                self.loop.at_stop.remove(self._stopped)

    def forget(self) -> None:
        """Abandon the calls in a forked child, and leave the loop as it is: the program may go on running it there."""
        super().forget()
        if self._posts is not None:
            self._posts.abandon()
        if isinstance(self.loop, BridgeLoop):
            self.loop.bridge = None

    def end_at_exit(self) -> None:
        """Detach because the process exits."""
        self.detach("the process is exiting")

    def _stopped(self) -> None:
        self.detach("the loop that the bridge is attached to has stopped")

    def _watch(self) -> None:
        """Check repeatedly that a foreign loop still runs, and detach when it has stopped. It notifies nobody."""
        while not self.state.is_over and self.loop.is_running():
            native.sleep(_CHECK)
        self._stopped()


def attach(loop: asyncio.AbstractEventLoop, shutdown_timeout: float) -> AttachedLoop | AttachedReactor:
    """Return a new run for a loop that :func:`loop_of` has returned."""
    if isinstance(loop, ReactorLoop):
        return AttachedReactor(loop, shutdown_timeout)
    return AttachedLoop(loop, shutdown_timeout)


def loop_of(loop_or_reactor: Any) -> asyncio.AbstractEventLoop:
    """Return the loop to attach to. For a reactor without one, return a stand-in.

    :param loop_or_reactor: None means the loop or reactor that runs in the calling thread.
    :raises BridgeError: None was given and no loop runs here, or the loop is closed.
    :raises TypeError: the argument is neither a loop nor a reactor.
    """
    if loop_or_reactor is None:
        running = get_running_loop()
        installed: Any = sys.modules.get("twisted.internet.reactor")
        if running is None and installed is not None and runs_here(installed):
            return stand_in(installed)
        if running is None:
            raise BridgeError(
                "no loop and no reactor runs in this thread to attach to; write Bridge.attach(loop) or "
                "Bridge.attach(reactor), or call it in a coroutine or a callback there" + at("cannot-attach")
            )
        return running
    loop: Any = loop_or_reactor
    if not isinstance(loop, asyncio.AbstractEventLoop):
        if not hasattr(loop, "callFromThread") or not hasattr(loop, "addSystemEventTrigger"):
            raise TypeError(
                f"Bridge.attach takes an asyncio loop or a Twisted reactor, not {loop!r}" + at("cannot-attach")
            )
        loop = getattr(loop, "_asyncioEventloop", None)
        if loop is None:
            return stand_in(loop_or_reactor)
    if loop.is_closed():
        raise BridgeError(f"{loop!r} is closed; attach to a loop that runs" + at("cannot-attach"))
    attached: asyncio.AbstractEventLoop = loop
    return attached
