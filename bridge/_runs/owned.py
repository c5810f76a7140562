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

from .._errors import at
from .._loop import worker_threads
from .._loop.base import BridgeLoop
from .._loop.ending import end_tasks, is_stopped_early, run_to_end
from .._loop.gevent import prepare
from .._loop.posting import ReaderPosts, way_to
from .._loop.switching import SwitchingLoop, new_event_loop
from .._loop.task import set_once
from .._loop.workers import Workers, shut_down_executor
from .._private.abilities import lost
from .._private.rows import REACTOR
from .._threads import native
from .._threads.latch import Latch
from .._twisted import arrival
from .._watch.records import records
from . import fork
from .exit import process_exit
from .run import Run
from .states import ABORT, BEGIN, ENDED, ENDING, FAIL, FAILED, FINISH, LAUNCH, LOST, RUNNING, SERVE, STARTING, State

log = logging.getLogger("bridge")

# Seconds between two checks, by a call that waits for the start, that the loop's thread exists.
_LOOK = 0.1
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
        await_deferreds: bool | None,
        owner: object,
        previous: LoopThread | None,
        shutdown_timeout: float,
    ) -> None:
        super().__init__(shutdown_timeout)
        self._loop_factory = loop_factory or new_event_loop
        self._install_reactor = install_reactor
        self._await_deferreds = await_deferreds
        # Weak, so that a Bridge that is dropped without close() gets collected. The reference is one object while the
        # bridge exists, so owners are compared by identity.
        self._owner = weakref.ref(owner)
        # The reactor that this run will give up: to the run after it, to another loop, or for good. Whoever takes it
        # out of the list does that: for instance a thread that closes the bridge, while another starts the next run.
        self._kept: list[Any] = [] if previous is None else previous.hand_over()
        self._place: arrival.Place | None = None
        # Called, in any thread, when another loop wants the installed reactor; None if this run keeps it.
        self.on_claim: Callable[[], object] | None = None
        self.has_given_way = False  # set by the loop's thread: unused, it has left its reactor to another loop
        self.trigger: Any = None  # of the reactor's shutdown
        self._shutdown_fired = False  # set by the loop's thread: the reactor has called its shutdown triggers
        self._started = Latch()  # open once the run is RUNNING, or over
        self._gone = Latch()  # open once nothing of the run is executed any more
        self._is_final = False  # set by any thread that closes: no later run will use the reactor
        # Set by the loop's thread as the process exits: names of the work that has not ended in time.
        self._left: list[str] = []
        self._serving: asyncio.Future[None]
        self._posts: ReaderPosts | None = None  # of a loop that takes our posts by a reader
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
        if not self.move(LAUNCH):
            return
        try:
            self.thread.start()
        except RuntimeError as error:
            interrupt = error.__context__
            if "lock" in str(error) and interrupt is not None and not isinstance(interrupt, Exception):
                # A signal handler has raised inside the wait of a threading.Condition. The condition then fails to
                # release its lock, and raises an error about that instead.
                raise interrupt.with_traceback(None) from None
            self.end(f"the thread of the loop could not start ({error!r})", error)
            raise
        # Any other exception from start() was raised by a signal handler. It propagates, and the thread runs.

    def wait_ready(self) -> None:
        """Wait until the loop runs, or the run is over.

        :raises BaseException: the error that kept it from starting, such as ReactorConflict or one of the loop factory.
        """
        while not self._started.wait(_LOOK):
            # Thread.start() may have been interrupted before it started the thread; see *interrupts* in run.py.
            if not self.thread.is_alive() and self.move(ABORT, "the start of the loop was interrupted"):
                self.end("the start of the loop was interrupted")
            self.moved(self.state)  # the thread that has moved may have been interrupted before it told
        if self.state is FAILED and self.cause is not None:
            raise self.cause.with_traceback(None)

    def moved(self, state: State) -> None:
        """Wake who waits for the start or the end."""
        if state is RUNNING or state.is_over:
            self._started.open()
        if state.is_gone:
            self._gone.open()

    @property
    def has_gone(self) -> bool:
        """Whether the thread has done its last step, and has told it."""
        return self._gone.is_open

    def _wait_gone(self, seconds: float) -> bool:
        """Wait for the end of the thread; return False on time-out. Other greenlets of gevent's run meanwhile."""
        self.moved(self.state)  # the thread that has moved may have been interrupted before it told
        backend = native.patched()
        if backend is not None:
            backend.wait_until(lambda: self.has_gone, seconds)
            seconds = 0.0
        if not self._gone.wait(seconds):
            return False
        if self.has_been(STARTING) and threading.current_thread() is not self.thread:
            self.thread.join(1.0)  # it has a few lines left
        return True

    @property
    def was_interrupted(self) -> bool:
        """Whether the run ended before its thread began, so that the next run may start at once."""
        return self.state is ENDED and not self.has_been(STARTING) and self.cause is None

    def wait_ended(self) -> None:
        """Wait until the thread has ended. Called when the run is over.

        :raises BridgeClosed: the thread still runs after the time limit of its shutdown.
        """
        if self.state is ENDING:
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
        self._is_final = self._is_final or final
        self.end(reason)
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self.is_ready:  # else the thread sees by itself that the run is over: see _serve
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.post(self.stop_serving)

    def wait_closed(self) -> None:
        """Wait until the tasks of the closing loop have cleaned up and its thread has ended.

        Return at once on the loop's own thread, and in the loop's workers: the loop waits for them as it ends.
        """
        may_wait = self.ident != native.get_ident() and not self.has(worker_threads.loop_of_this_thread())
        if may_wait and not self._wait_gone(self.shutdown_timeout + 1.0):
            log.warning(
                "%s did not end within %s seconds" + at("slow-end"), self.thread.name, self.shutdown_timeout + 1.0
            )
        if self._is_final and self.state.is_gone:  # else the thread releases it as it ends
            self._release_reactor()

    def end_at_exit(self) -> None:
        """Begin to end the run because the process exits."""
        self.begin_to_close("the process is exiting", final=True)

    def left_at_exit(self, deadline: float) -> list[str]:
        """Wait for the end of the run. Return the names of threads and tasks that have not ended by the deadline.

        :param deadline: in seconds of ``time.monotonic()``.
        """
        if not self._wait_gone(max(0.0, deadline - time.monotonic())):
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
        for reactor in {self.reactor, *self._kept} - {None}:
            from .._twisted import reactor as reactors

            kept += reactors.forget(reactor)
        loop = getattr(self, "loop", None)
        if loop is not None and not loop.is_closed():
            fork.abandon(loop, kept)
            if self._posts is not None:
                self._posts.abandon()

    def stop_serving(self) -> None:
        """Make ``_serve`` return, which ends the loop. Called on the loop's thread."""
        set_once(self._serving)

    def hand_over(self) -> list[Any]:
        """Return the reactor for who has it next, in a list that is empty if there is none, or somebody has it."""
        try:
            return [self._kept.pop()]
        except IndexError:
            return []

    def _release_reactor(self) -> None:
        for reactor in self.hand_over():
            from .._twisted import reactor as reactors

            reactors.release(reactor, self._owner)

    def _main(self) -> None:
        # May be interrupted at any line, as may the functions that it calls: see *interrupts* in run.py. Even the last
        # step need not be reached: if it is not, _Last moves the run when the thread ends.
        self.ident = native.get_ident()
        _of_thread.last = _Last(self)
        if not self.move(BEGIN):  # the run has ended before
            return
        try:
            self._live()
        finally:
            self.move(FINISH)

    def _live(self) -> None:
        try:
            if self._make_loop():
                self._run()
        except BaseException as error:
            self.end(f"the loop ended with {error!r}", error)
        if self.state is LOST:
            # A callback has forked, and the child has returned from it. This is the main thread of the child, which has
            # nothing left to do. If the child has started a loop, the thread of that loop would keep the process alive.
            os._exit(0)
        if not hasattr(self, "loop"):
            return
        for step in (self._end_waits, self._clean_up, self._close_loop):
            for _ in range(_TRIES):
                try:
                    step()
                    break
                except BaseException:
                    log.exception("error while %s was shutting down", self.thread.name)

    def _make_loop(self) -> bool:
        """Make the loop, and what stands on it. Return False if that has failed."""
        try:
            loop: Any = self._loop_factory()
            if not isinstance(loop, asyncio.AbstractEventLoop):
                raise TypeError(
                    f"loop_factory returned {loop!r}, which is no event loop; it has to make a new one at every call, "
                    "as asyncio.SelectorEventLoop does" + at("no-event-loop")
                )
            if loop.is_closed():
                raise RuntimeError("Event loop is closed")
            self.loop = loop
            try:
                self._build()
            except BaseException:
                if self._place is not None:
                    self._place.end()
                self._close_posts()
                loop.close()
                del self.loop
                raise
        except BaseException as error:
            reason = f"the loop could not be started ({error!r})"
            self.move(FAIL, reason, error)
            self.end(reason, error)
            return False
        return True

    def _run(self) -> None:
        records.join(self)
        reason, cause = "the loop was stopped", None
        try:
            # Not run_forever: anyio searches for the task that run_until_complete runs, and keeps its worker threads
            # until that task ends.
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            if not is_stopped_early(error):
                reason, cause = f"the loop ended with {error!r}", error
        killed = getattr(self.loop, "killed_by", None)
        if killed is not None:
            reason, cause = f"the loop ended with {killed!r}", killed
        self.end(reason, cause)

    def thread_has_ended(self) -> None:
        """End the run if it has not ended. Called in the loop's thread when the thread has ended."""
        self.end("the loop's thread was killed")
        self.move(FINISH)
        self.moved(self.state)

    def _end_waits(self) -> None:
        if isinstance(self.loop, SwitchingLoop):
            self.loop.end_waits(self.closed_error)

    def _close_loop(self) -> None:
        self._orphans.clear()
        self._close_posts()
        self.loop.close()
        if isinstance(self.loop, SwitchingLoop):
            self.meter.switches += self.loop.stacks.switches
        records.leave(self)
        if self._is_final:
            self._release_reactor()

    def _close_posts(self) -> None:
        if self._posts is not None:
            self._posts.close()

    def _build(self) -> None:
        self.post, self._posts = way_to(self.loop, True)
        if not isinstance(self.loop, BridgeLoop):
            worker_threads.know_workers_of(self.loop)
        # An executor of ours: on 3.11 the loop's shutdown_default_executor() waits without a time limit.
        self._executor = Workers(thread_name_prefix=self.thread.name)
        self.loop.set_default_executor(self._executor)
        self._serving = self.loop.create_future()
        if isinstance(self.loop, SwitchingLoop):
            self.loop.stacks.stall_after = self.stall_after
        self._place = place = arrival.Place(
            self.loop, self._install_reactor, self._owner, self._take_reactor, awaits=self._await_deferreds
        )
        if self._kept:
            place.take_over(self._kept[0])
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
        self._kept[:] = [reactor]
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
        reactor = self._place.get(lambda: self.state.is_over)
        if reactor is None:
            raise self.closed_error()
        return reactor

    async def _serve(self) -> None:
        if self.state.is_over:  # it was closed during the start
            return
        await prepare(self.loop)
        if self.reactor is not None and self._place is not None:
            self._place.start()
        if self.move(SERVE):
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
        if not self.loop.is_closed():
            run_to_end(self.loop, lambda: self._shut_down(deadline))

    async def _shut_down(self, deadline: float) -> None:
        loop = self.loop
        left = await end_tasks(loop, deadline)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await loop.shutdown_asyncgens()
        if self.reactor is not None:
            from .._twisted import reactor as reactors

            if not await reactors.shut_down(self.reactor, self._shutdown_fired, deadline):
                left.append("shutdown triggers of the reactor")
        if not await shut_down_executor(self._executor, deadline):
            left.append("threads of the loop's executor")
        if left and process_exit.is_closing:
            self._left = [f"{each} (of {self.name!r})" for each in left]
        elif left:
            log.warning(
                "%s ended after %s seconds without: %s" + at("slow-end"), self.thread.name, self.shutdown_timeout, left
            )


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
