"""LoopThread: one run of a loop, from the start of its thread to the end of its last task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from .._loop import worker_threads
from .._loop.base import BridgeLoop, deferring_factory
from .._loop.switching import SwitchingLoop, new_event_loop
from .._loop.task import set_once
from .._loop.workers import Workers, prepare, shut_down_executor
from .._private.abilities import lost
from .._private.rows import REACTOR
from .._threads import native
from .._threads.latch import Latch
from .._twisted import arrival
from .._watch.records import records
from . import fork
from .run import Run

log = logging.getLogger("bridge")

# How often a call that waits for the start looks whether there is a thread that starts, in seconds.
_START_CHECK = 0.1
# How often a step of the end of a loop is tried that is interrupted.
_TRIES = 3


class LoopThread(Run):
    """One loop, and its reactor if somebody needs one, in a thread of its own. It is started once and ends once."""

    def __init__(
        self,
        *,
        name: str,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
        install_reactor: bool | None,
        owner: object,
        previous: LoopThread | None,
        shutdown_timeout: float,
    ) -> None:
        super().__init__(shutdown_timeout)
        self._loop_factory = loop_factory or new_event_loop
        self._install_reactor = install_reactor
        # Weak, so that a Bridge dropped without a close is noticed. While it lives this is always the same object.
        self._owner = weakref.ref(owner)
        self._previous_reactor = None if previous is None else previous.reactor
        self._place: arrival.Place | None = None  # of the reactor
        self._shutdown_fired = False
        self._ready = Latch()
        self._gone = Latch()  # the thread has done all that it does
        self._failed: BaseException | None = None
        self._final = False
        self._was_launched = False
        self._has_begun = False  # the thread runs, or has run
        self._is_parents = False  # this is a forked child, and the thread was the parent's
        self._is_at_exit = False
        self._left: list[str] = []  # at the exit of the process: what has not ended in time
        self._serving: asyncio.Future[None]
        self.thread: threading.Thread = native.Thread(target=self._main, name=name, daemon=True)

    @property
    def own_thread(self) -> threading.Thread:
        """The loop's thread."""
        return self.thread

    @property
    def name(self) -> str:
        """What to call the loop's thread in a log."""
        return self.thread.name

    def start(self) -> None:
        """Start the thread, once. Returns before the loop runs.

        :raises RuntimeError: there are no more threads to be had.
        """
        if self._was_launched:
            return
        self._was_launched = True
        try:
            self.thread.start()
        except RuntimeError as error:
            interrupt = error.__context__
            if "lock" in str(error) and interrupt is not None and not isinstance(interrupt, Exception):
                # A signal handler has raised inside the wait of a threading.Condition, which then fails to release its
                # lock and says that instead.
                raise interrupt.with_traceback(None) from None
            self.end(f"the thread of the loop could not start ({error!r})", error)
            self._ready.open()
            raise
        # What else comes out of it was raised by a signal handler, and the thread runs all the same.

    def wait_ready(self) -> None:
        """Wait until the loop runs.

        :raises BaseException: what kept it from starting, such as ReactorConflict or an error of the loop factory.
        """
        self._wait_ready()
        if self._failed is not None:
            raise self._failed.with_traceback(None)

    def _wait_ready(self) -> None:
        while not self._ready.wait(_START_CHECK):
            # A signal handler may have raised between two lines of Thread.start().
            if not self._has_begun and not self.thread.is_alive():
                self.end("the start of the loop was interrupted")
                self._ready.open()

    @property
    def has_gone(self) -> bool:
        """Whether the thread has done all that it does."""
        return self._gone.is_open

    def _wait_gone(self, seconds: float) -> bool:
        """Wait for the end of the thread; return whether it has ended. Other greenlets of gevent's go on meanwhile."""
        if native.is_patched():
            native.wait_until(lambda: self.has_gone, seconds)
            seconds = 0.0
        if not self._gone.wait(seconds):
            return False
        if threading.current_thread() is not self.thread:
            self.thread.join(1.0)  # it has a few lines left
        return True

    @property
    def was_interrupted(self) -> bool:
        """Whether this ended before its thread began, so that another may start at once."""
        return self.over is not None and not self._has_begun and self._failed is None and self.cause is None

    def wait_ended(self) -> None:
        """Wait until the thread of a run that is over has ended.

        :raises BridgeClosed: it still runs after the time that its shutdown may take.
        """
        if not self._has_begun:  # it could not be started; or it ends before it does anything, as this is over
            return
        if not self._gone.is_open:
            self._ask_to_end()  # Ctrl-C may have come before whoever ended the run could
        if not self._wait_gone(self.shutdown_timeout + 1.0):
            error = self.closed_error()
            error.add_note("Its thread has not ended, so no new loop can start: something blocks it.")
            raise error

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Refuse further calls and fail the open ones at once; any thread may call this, the first one counts."""
        loop = getattr(self, "loop", None)
        if isinstance(loop, BridgeLoop):
            loop.is_ending = True
        super().end(reason, cause)

    def begin_to_close(self, reason: str, *, final: bool = False) -> None:
        """Refuse further calls, fail the open ones and let the thread end the loop; any thread may call this.

        Ctrl-C may end it anywhere. To call it again does what is left.

        :param final: no later run will use the reactor.
        """
        self._final = self._final or final
        self.end(reason)
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self.is_ready:  # else the thread itself sees that the run is over: see _serve
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.post(self.stop_serving)

    def wait_closed(self) -> None:
        """Wait until the loop that begins to close has let its tasks clean up, and its thread has ended.

        It does not on the loop's own thread, nor in the workers of the loop, for which that waits as it ends.
        """
        if self.ident != native.get_ident() and not self.has(worker_threads.loop_of_this_thread()):
            self._wait_ready()
            if self._has_begun and not self._wait_gone(self.shutdown_timeout + 1.0):
                log.warning("%s did not end within %s seconds", self.thread.name, self.shutdown_timeout + 1.0)
        if self._final and (self._gone.is_open or not self._has_begun):  # else the thread does it as it ends
            self._release_reactor()

    def end_at_exit(self) -> None:
        """Start to end, as the process exits."""
        self._is_at_exit = True
        self.begin_to_close("the process is exiting", final=True)

    def left_at_exit(self, deadline: float) -> list[str]:
        """Wait for the end and return names of what has not ended by the deadline, in seconds of ``monotonic()``."""
        if self._has_begun and not self._wait_gone(max(0.0, deadline - time.monotonic())):
            frame = native.current_frames().get(self.thread.ident or 0)
            where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
            return [f"the thread {self.name!r}, which stands{where}"]
        self._release_reactor()
        return self._left

    def forget(self) -> None:
        """Let go of the loop and its reactor in a forked child, which the next run there takes over."""
        super().forget()
        kept: list[Any] = [self]
        if self._place is not None:
            self._place.is_over = True
        if self.reactor is not None:
            from .._twisted import reactor as reactors

            kept += reactors.forget(self.reactor)
        self._is_parents = True
        self._gone.open()
        loop = getattr(self, "loop", None)
        if loop is not None and not loop.is_closed():
            fork.abandon(loop, kept)

    def stop_serving(self) -> None:
        """Let the loop end. Called on its thread."""
        set_once(self._serving)

    def _release_reactor(self) -> None:
        if self.reactor is not None:
            from .._twisted import reactor as reactors

            reactors.release(self.reactor, self._owner)

    def _main(self) -> None:
        # An exception that is set from outside (PyThreadState_SetAsyncExc) may be raised at any line of this, and of
        # what it calls. So each step can be done again, and the last one of all does not need to be reached.
        self._has_begun = True
        self.ident = native.get_ident()
        _of_thread.last = _Last(self)
        try:
            self._live()
        finally:
            self._gone.open()

    def _live(self) -> None:
        if self.over is not None:
            self._ready.open()
            return
        try:
            self._run()
        except BaseException as error:
            self.end(f"the loop ended with {error!r}", error)
        self._ready.open()
        if self._is_parents:
            # A callback has forked, and the child has returned from it. As from any thread's end, nothing is left to
            # do; but should the child have started a loop, the thread of that would keep it.
            os._exit(0)
        if self._failed is not None:
            return
        for step in (self._end_waits, self._clean_up, self._close_loop):
            for _ in range(_TRIES):
                try:
                    step()
                    break
                except BaseException:
                    log.exception("error while %s was shutting down", self.thread.name)

    def _run(self) -> None:
        try:
            loop: Any = self._loop_factory()
            if not isinstance(loop, asyncio.AbstractEventLoop):
                raise TypeError(
                    f"loop_factory returned {loop!r}, which is no event loop; it has to make a new one at every call, "
                    "as asyncio.SelectorEventLoop does"
                )
            if loop.is_closed():
                raise RuntimeError("Event loop is closed")
            self.loop = loop
            try:
                self._build()
            except BaseException:
                if self._place is not None:
                    self._place.end()
                self.loop.close()
                raise
        except BaseException as error:
            self._failed = error
            self.end(f"the loop could not be started ({error!r})", error)
            return
        records.join(self)
        reason, cause = "the loop was stopped", None
        try:
            # Not run_forever: anyio looks for a task that run_until_complete runs, and keeps its workers while it does.
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            if not _is_stopped_early(error):
                reason, cause = f"the loop ended with {error!r}", error
        killed = getattr(self.loop, "killed_by", None)
        if killed is not None:
            reason, cause = f"the loop ended with {killed!r}", killed
        self.end(reason, cause)

    def thread_has_ended(self) -> None:
        """End the run, should it not have ended, as its thread has. Called in the thread, after its last line."""
        self.end("the loop's thread was killed")
        self._ready.open()
        self._gone.open()

    def _end_waits(self) -> None:
        if isinstance(self.loop, SwitchingLoop):
            self.loop.end_waits(self.closed_error)

    def _close_loop(self) -> None:
        self._orphans.clear()
        self.loop.close()
        if isinstance(self.loop, SwitchingLoop):
            self.meter.switches += self.loop.stacks.switches
        records.leave(self)
        if self._final:
            self._release_reactor()

    def _build(self) -> None:
        self.post = self.loop.post if isinstance(self.loop, BridgeLoop) else self.loop.call_soon_threadsafe
        if not isinstance(self.loop, BridgeLoop) and self.loop.get_task_factory() is None:
            self.loop.set_task_factory(deferring_factory)
        # One of our own, for the loop's own shutdown_default_executor() of 3.11 waits without a limit.
        self._executor = Workers(thread_name_prefix=self.thread.name)
        self.loop.set_default_executor(self._executor)
        self._serving = self.loop.create_future()
        if isinstance(self.loop, SwitchingLoop):
            self.loop.stacks.stall_after = self.stall_after
        self._place = place = arrival.Place(self.loop, self._install_reactor, self._owner, self._take_reactor)
        if self._previous_reactor is not None:
            place.take_over(self._previous_reactor)
            return
        if not self._install_reactor and not arrival.is_loaded():
            place.wait()  # which sees what is imported from now on; it may have been imported just before
        if (self._install_reactor or arrival.is_loaded()) and not lost(REACTOR):  # else Bridge.reactor says so
            place.build()

    def _take_reactor(self, reactor: Any) -> None:
        self.reactor = reactor
        reactor.on_crash = self._reactor_crashed
        if isinstance(self.loop, SwitchingLoop):
            self.loop.before_block = reactor.keep_time
        reactor.addSystemEventTrigger("before", "shutdown", self._shutdown_begins)

    def needed_reactor(self) -> Any:
        """Return the reactor, which is made and started if there is none.

        :raises BridgeClosed: the loop ends.
        :raises ReactorConflict: another reactor runs in this process.
        """
        assert self._place is not None
        reactor = self._place.get(lambda: self.over is not None)
        if reactor is None:
            raise self.closed_error()
        return reactor

    async def _serve(self) -> None:
        if self.over is not None:  # closed as it started
            return
        await prepare(self.loop)
        if self.reactor is not None and self._place is not None:
            self._place.start()
        self.accepts = True  # and only then: the exit refuses what is ready
        self.is_ready = True
        if self.over is not None:  # meanwhile; see Run.end and _ask_to_end
            self.accepts = False
            return
        self._ready.open()
        await self._serving

    def _shutdown_begins(self) -> None:
        self._shutdown_fired = True

    def _reactor_crashed(self) -> None:
        # Threads of the reactor's pool may be blocked on this loop, and its shutdown joins them in this very thread.
        self.end("the reactor was stopped")
        self.stop_serving()

    def _clean_up(self) -> None:
        deadline = self.loop.time() + self.shutdown_timeout
        if self._place is not None:
            self._place.end()
        while not self.loop.is_closed():
            try:
                self.loop.run_until_complete(self._shut_down(deadline))
                return
            except BaseException as error:
                if not _is_stopped_early(error):
                    raise
                # Somebody stops the loop while it shuts down.

    async def _shut_down(self, deadline: float) -> None:
        loop = self.loop
        left = await _cancel_tasks(deadline)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await loop.shutdown_asyncgens()
        if self.reactor is not None:
            from .._twisted import reactor as reactors

            if not await reactors.shut_down(self.reactor, self._shutdown_fired, deadline):
                left.append("shutdown triggers of the reactor")
        if not await shut_down_executor(self._executor, deadline):
            left.append("threads of the loop's executor")
        if left and self._is_at_exit:
            self._left = [f"{each} (of {self.name!r})" for each in left]
        elif left:
            log.warning("%s ended after %s seconds without: %s", self.thread.name, self.shutdown_timeout, left)


class _Last:
    """Is dropped when the thread ends, whatever has killed it: a thread's local data are."""

    def __init__(self, run: LoopThread) -> None:
        self._run = run
        self._process = os.getpid()

    def __del__(
        self, is_finalizing: Callable[[], bool] = sys.is_finalizing, getpid: Callable[[], int] = os.getpid
    ) -> None:
        # In a forked child the data of the other threads are dropped as well.
        if not self._run.has_gone and not is_finalizing() and getpid() == self._process:
            self._run.thread_has_ended()


_of_thread = threading.local()


async def _cancel_tasks(deadline: float) -> list[Any]:
    """Cancel every task of the running loop and wait for them; return those that had not ended by the deadline."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    while tasks:
        for task in tasks:
            task.cancel()
        done, pending = await asyncio.wait(tasks, timeout=max(0.0, deadline - loop.time()))
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception while the loop was shutting down",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        if pending:
            return list(pending)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # a cleanup may have started others
    return []


def _is_stopped_early(error: BaseException) -> bool:
    """Return whether the error says that somebody called ``loop.stop()`` under ``run_until_complete``."""
    return type(error) is RuntimeError and error.args == ("Event loop stopped before Future completed.",)
