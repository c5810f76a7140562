"""LoopThread: one run of a loop in a thread of its own, from the start of the thread to the end of its last task."""

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

# Seconds between two checks, by a call that waits for the start, that the loop's thread exists.
_START_CHECK = 0.1
# How many times a step of the loop's end is tried if it is interrupted.
_TRIES = 3


class LoopThread(Run):
    """One loop in a thread of its own, with a reactor if one is needed. It starts once and ends once."""

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
        # Weak, so that a Bridge that is dropped without close() gets collected. The reference is one object while the
        # bridge exists, so owners are compared by identity.
        self._owner = weakref.ref(owner)
        self._previous_reactor = None if previous is None else previous.reactor
        self._place: arrival.Place | None = None
        # Called, in any thread, when another loop wants the installed reactor; None if this run keeps it.
        self.on_claim: Callable[[], object] | None = None
        self.trigger: Any = None  # of the reactor's shutdown
        self._shutdown_fired = False
        self._ready = Latch()
        self._gone = Latch()  # opened by the thread as its last step
        self._failed: BaseException | None = None
        self._final = False
        self._was_launched = False
        self._has_begun = False  # the thread is running or has run
        self._is_parents = False  # this process is a forked child, and the thread was the parent's
        self._is_at_exit = False
        self._left: list[str] = []  # at the exit of the process: names of the work that has not ended in time
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

        :raises RuntimeError: the system refuses a new thread.
        """
        if self._was_launched:
            return
        self._was_launched = True
        try:
            self.thread.start()
        except RuntimeError as error:
            interrupt = error.__context__
            if "lock" in str(error) and interrupt is not None and not isinstance(interrupt, Exception):
                # A signal handler has raised inside the wait of a threading.Condition. The condition then fails to
                # release its lock, and raises an error about that instead.
                raise interrupt.with_traceback(None) from None
            self.end(f"the thread of the loop could not start ({error!r})", error)
            self._ready.open()
            raise
        # Any other exception from start() was raised by a signal handler. It propagates, and the thread runs.

    def wait_ready(self) -> None:
        """Wait until the loop runs.

        :raises BaseException: the error that kept it from starting, such as ReactorConflict or one of the loop factory.
        """
        self._wait_ready()
        if self._failed is not None:
            raise self._failed.with_traceback(None)

    def _wait_ready(self) -> None:
        while not self._ready.wait(_START_CHECK):
            # Thread.start() may have been interrupted before it started the thread; see *interrupts* in run.py.
            if not self._has_begun and not self.thread.is_alive():
                self.end("the start of the loop was interrupted")
                self._ready.open()

    @property
    def has_gone(self) -> bool:
        """Whether the thread has done its last step."""
        return self._gone.is_open

    def _wait_gone(self, seconds: float) -> bool:
        """Wait for the end of the thread; return False on time-out. Other greenlets of gevent's run meanwhile."""
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
        """Whether the run ended before its thread began, so that the next run may start at once."""
        return self.over is not None and not self._has_begun and self._failed is None and self.cause is None

    def wait_ended(self) -> None:
        """Wait until the thread has ended. Called when the run is over.

        :raises BridgeClosed: the thread still runs after the time limit of its shutdown.
        """
        if not self._has_begun:  # it could not start; or it will see that the run is over, and end at once
            return
        if not self._gone.is_open:
            self._ask_to_end()  # the code that ended the run may have been interrupted before it did this
        if not self._wait_gone(self.shutdown_timeout + 1.0):
            error = self.closed_error()
            error.add_note("Its thread has not ended, so no new loop can start: something blocks it.")
            raise error

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Refuse further calls and fail the open ones at once. Any thread may call this; the first reason is kept."""
        loop = getattr(self, "loop", None)
        if isinstance(loop, BridgeLoop):
            loop.is_ending = True
        super().end(reason, cause)

    def begin_to_close(self, reason: str, *, final: bool = False) -> None:
        """Refuse further calls, fail the open ones and make the thread end the loop. Any thread may call this.

        May be interrupted anywhere, and called again: see *interrupts* in :mod:`.run`.

        :param final: no later run will use the reactor.
        """
        self._final = self._final or final
        self.end(reason)
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self.is_ready:  # else the thread checks by itself whether the run is over: see _serve
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.post(self.stop_serving)

    def wait_closed(self) -> None:
        """Wait until the tasks of the closing loop have cleaned up and its thread has ended.

        Return at once on the loop's own thread, and in the loop's workers: the loop waits for them as it ends.
        """
        if self.ident != native.get_ident() and not self.has(worker_threads.loop_of_this_thread()):
            self._wait_ready()
            if self._has_begun and not self._wait_gone(self.shutdown_timeout + 1.0):
                log.warning("%s did not end within %s seconds", self.thread.name, self.shutdown_timeout + 1.0)
        if self._final and (self._gone.is_open or not self._has_begun):  # else the thread releases it as it ends
            self._release_reactor()

    def end_at_exit(self) -> None:
        """Begin to end the run because the process exits."""
        self._is_at_exit = True
        self.begin_to_close("the process is exiting", final=True)

    def left_at_exit(self, deadline: float) -> list[str]:
        """Wait for the end of the run. Return the names of threads and tasks that have not ended by the deadline.

        :param deadline: in seconds of ``time.monotonic()``.
        """
        if self._has_begun and not self._wait_gone(max(0.0, deadline - time.monotonic())):
            frame = native.current_frames().get(self.thread.ident or 0)
            where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
            return [f"the thread {self.name!r}, which stands{where}"]
        self._release_reactor()
        return self._left

    def forget(self) -> None:
        """Abandon the loop in a forked child. The next run there takes over the reactor."""
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
        """Make ``_serve`` return, which ends the loop. Called on the loop's thread."""
        set_once(self._serving)

    def _release_reactor(self) -> None:
        if self.reactor is not None:
            from .._twisted import reactor as reactors

            reactors.release(self.reactor, self._owner)

    def _main(self) -> None:
        # May be interrupted at any line, as may the functions that it calls: see *interrupts* in run.py. Even the last
        # step need not be reached: if it is not, _Last opens the latches when the thread ends.
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
            # A callback has forked, and the child has returned from it. This is the main thread of the child, which has
            # nothing left to do. If the child has started a loop, the thread of that loop would keep the process alive.
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
            # Not run_forever: anyio searches for the task that run_until_complete runs, and keeps its worker threads
            # until that task ends.
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            if not _is_stopped_early(error):
                reason, cause = f"the loop ended with {error!r}", error
        killed = getattr(self.loop, "killed_by", None)
        if killed is not None:
            reason, cause = f"the loop ended with {killed!r}", killed
        self.end(reason, cause)

    def thread_has_ended(self) -> None:
        """End the run if it has not ended. Called in the loop's thread when the thread has ended."""
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
        # An executor of ours: on 3.11 the loop's shutdown_default_executor() waits without a time limit.
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
            place.wait()  # sees imports from now on; Twisted may have been imported just before, so look again
        if (self._install_reactor or arrival.is_loaded()) and not lost(REACTOR):  # if lost, Bridge.reactor raises
            if self.on_claim is not None:
                from .._twisted import reactor as reactors

                reactors.claim(self._owner)
            place.build()

    def _take_reactor(self, reactor: Any) -> None:
        self.reactor = reactor
        reactor.on_crash = self._reactor_crashed
        if isinstance(self.loop, SwitchingLoop):
            self.loop.before_block = reactor.keep_time
        reactor.leave = self.on_claim
        self.trigger = reactor.addSystemEventTrigger("before", "shutdown", self._shutdown_begins)

    def needed_reactor(self) -> Any:
        """Return the reactor, making and starting one if there is none.

        :raises BridgeClosed: the loop is ending.
        :raises ReactorConflict: another reactor runs in this process.
        """
        assert self._place is not None
        reactor = self._place.get(lambda: self.over is not None)
        if reactor is None:
            raise self.closed_error()
        return reactor

    async def _serve(self) -> None:
        if self.over is not None:  # it was closed during the start
            return
        await prepare(self.loop)
        if self.reactor is not None and self._place is not None:
            self._place.start()
        self.accepts = True  # before is_ready: from then on the exit of the process may clear it
        self.is_ready = True
        if self.over is not None:  # the run has ended meanwhile; see Run.end and _ask_to_end
            self.accepts = False
            return
        self._ready.open()
        await self._serving

    def _shutdown_begins(self) -> None:
        self._shutdown_fired = True

    def _reactor_crashed(self) -> None:
        # The reactor's shutdown joins its pool in this thread. Threads of the pool may be blocked in calls to this
        # loop, so these calls have to fail first.
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
                # Somebody has called loop.stop() during the shutdown: go on with it.

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
    """Calls ``thread_has_ended`` when the loop's thread ends, whatever has killed the thread.

    It stands in the thread's local data, which Python drops at the end of a thread.
    """

    def __init__(self, run: LoopThread) -> None:
        self._run = run
        self._process = os.getpid()

    def __del__(
        self, is_finalizing: Callable[[], bool] = sys.is_finalizing, getpid: Callable[[], int] = os.getpid
    ) -> None:
        # In a forked child Python drops the local data of all other threads too. So the process ids are compared.
        if not self._run.has_gone and not is_finalizing() and getpid() == self._process:
            self._run.thread_has_ended()


_of_thread = threading.local()


async def _cancel_tasks(deadline: float) -> list[Any]:
    """Cancel every task of the running loop and wait for them. Return the tasks that have not ended by the deadline."""
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
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # a cleanup may have started new tasks
    return []


def _is_stopped_early(error: BaseException) -> bool:
    """Return whether the error was raised because ``loop.stop()`` was called during ``run_until_complete``."""
    return type(error) is RuntimeError and error.args == ("Event loop stopped before Future completed.",)
