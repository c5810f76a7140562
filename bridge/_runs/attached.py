"""AttachedReactor: a reactor of any kind that the program runs, such as twistd's or a GUI toolkit's.

Such a reactor has no asyncio loop. Coroutines that await Deferreds need none. They run in tasks all the same, which
gives them cancellation and context variables. The loop of these tasks is a stand-in, :class:`ReactorLoop`, which can
only schedule callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from .._errors import BridgeError, StrategyUnavailable, at
from .._loop.ending import end_tasks
from .._loop.task import inner_coroutine
from .._private.abilities import lost, unavailable
from .._private.cpython import PyTask
from .._private.rows import FOREIGN_REACTORS
from .._threads import native
from .._twisted import arrival
from .._values.deferreds import deferreds
from .._values.kinds import describe
from .run import FORKED, Run
from .states import END, FINISH, LOST, SERVE

# From CPython 3.14 on, the Task implemented in C takes a step only if its loop is the running loop of the thread, and
# a stand-in never is. The Task implemented in Python has no such rule. There a coroutine sees no current task, since
# there is no running loop.
if TYPE_CHECKING:
    _Task = asyncio.Task[Any]
else:
    _Task = PyTask or asyncio.Task

log = logging.getLogger("bridge")

# Seconds between two checks that the reactor still runs. They are needed as crash() fires no shutdown trigger.
_CHECK = 0.05
# The errors by which asyncio and anyio report that no asyncio loop runs: parts of messages, and names of classes.
_NO_LOOP = ("no running event loop", "There is no current event loop", "attached to a different loop")
_NO_LOOP_TYPES = frozenset({"AsyncLibraryNotFoundError", "NoEventLoopError"})


class ReactorLoop(asyncio.AbstractEventLoop):
    """A stand-in for the asyncio loop that a reactor lacks. It has only the methods that a task needs for its steps.

    It is never the running loop of its thread. So a coroutine that needs asyncio itself fails at its first step, and
    not later at a method that the stand-in lacks.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.has_ended = False
        # CPython 3.14's all_tasks() does not see a task of the class that is implemented in Python.
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._ready: deque[asyncio.Handle] = deque()
        self._is_scheduled = False

    def __repr__(self) -> str:
        return f"<the {type(self.reactor).__name__} without an asyncio loop>"

    def is_running(self) -> bool:
        """Return whether the reactor runs."""
        return bool(self.reactor.running) and not self.has_ended

    def is_closed(self) -> bool:
        """Return whether the reactor has stopped for good."""
        return self.has_ended

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def time(self) -> float:
        """Return the reactor's time, in seconds."""
        return float(self.reactor.seconds())

    def get_task_factory(self) -> Any:
        """Return the function that makes a task on the stand-in."""
        return _make_task

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new Future on the stand-in."""
        return asyncio.Future(loop=self)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call a function in one of the reactor's next iterations. Called on the reactor's thread."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._schedule()
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call a function on the reactor's thread, soon. Any thread may call this."""
        handle = asyncio.Handle(callback, args, self, context)
        self.reactor.callFromThread(self._run, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call a function after so many seconds. Called on the reactor's thread."""
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        self.reactor.callLater(max(0.0, delay), self._run, handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error that no other code handles."""
        log.error("%s on %r", context.get("message"), self, exc_info=context.get("exception"))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle, *more: Any, **options: Any) -> None:
        pass

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.reactor.callLater(0, self._run_ready)

    def _run_ready(self) -> None:
        # A reactor runs timers that are due at the same time in any order. So the stand-in has a queue of its own.
        self._is_scheduled = False
        try:
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
        finally:
            if self._ready:
                self._schedule()

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            with _stands_in(self):
                handle._run()


def stand_in(reactor: Any) -> ReactorLoop:
    """Return a stand-in for the asyncio loop that the reactor lacks.

    :raises StrategyUnavailable: this Python lacks a private name that the stand-in needs.
    """
    if lost(FOREIGN_REACTORS):
        raise unavailable(FOREIGN_REACTORS, "run the program's reactor on a loop: bridge.install()")
    arrival.begin_awaits(None, None)  # at once, since Twisted is imported
    # typeshed declares methods abstract that in CPython only raise NotImplementedError.
    make: Any = ReactorLoop
    loop: ReactorLoop = make(reactor)
    return loop


class _ReactorTask(_Task):
    """A task on a :class:`ReactorLoop`. If asyncio raised since no loop runs, ``result()`` raises with the reason."""

    user_coro: Any = None  # the coroutine of the call, without the one that contains it

    def result(self) -> Any:
        """Return the result of the coroutine, or raise its error."""
        try:
            return super().result()
        except RuntimeError as error:
            if not _misses_a_loop(error):
                raise
            raise _without_a_loop(self.user_coro, self.get_loop().reactor) from error  # type: ignore[attr-defined]


def _without_a_loop(x: Any, reactor: Any) -> BridgeError:
    return BridgeError(
        f"{describe(x)} needs asyncio, and the {type(reactor).__name__} that the bridge is attached to has no asyncio "
        "loop: only Deferreds can be awaited there; call the plain block_on(), which has a loop of its own beside that "
        "reactor (bridge.configure(install_reactor=False)), or run the program on Twisted's asyncioreactor or "
        "bridge.install()" + at("reactor-without-asyncio")
    )


def _pending_tasks(loop: ReactorLoop) -> set[asyncio.Task[Any]]:
    return {task for task in loop.tasks if not task.done()}


def _make_task(loop: Any, coro: Any, *, context: Context | None = None) -> _ReactorTask:
    user_coro = inner_coroutine(coro)
    if sys.version_info >= (3, 12):
        with _stands_in(loop):
            task = _ReactorTask(coro, loop=loop, context=context, eager_start=True)
    else:
        task = _ReactorTask(coro, loop=loop, context=context)
    task.user_coro = user_coro
    loop.tasks.add(task)
    return task


@contextlib.contextmanager
def _stands_in(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Have a coroutine that awaits a Deferred know that it runs in a task, although no loop runs."""
    ident = native.get_ident()
    before = deferreds.stand_ins.get(ident)
    deferreds.stand_ins[ident] = loop
    try:
        yield
    finally:
        if before is None:
            del deferreds.stand_ins[ident]
        else:
            deferreds.stand_ins[ident] = before


def _misses_a_loop(error: RuntimeError) -> bool:
    return type(error).__name__ in _NO_LOOP_TYPES or (
        type(error) is RuntimeError and any(text in str(error) for text in _NO_LOOP)
    )


class AttachedRun(Run):
    """A run of what the program runs. Detaching does not change that."""

    def detach(self, reason: str) -> None:
        """Fail the open calls and refuse further ones."""
        self.end(reason)
        self.move(FINISH)

    def forget(self) -> None:
        """Abandon the calls in a forked child. What did not run as the process was forked may yet be run there."""
        if self.loop.is_running():
            super().forget()
        else:
            self.move(END, FORKED)
            self.move(FINISH)
            self.abandon_calls()


class AttachedReactor(AttachedRun):
    """The run of a reactor without an asyncio loop."""

    calls_here = True

    def __init__(self, loop: ReactorLoop, shutdown_timeout: float) -> None:
        super().__init__(shutdown_timeout)
        self.loop = loop
        self.reactor = loop.reactor
        self.post = self.reactor.callFromThread
        self._trigger: Any = None  # set and cleared in the reactor's thread
        self._reason = f"the {type(self.reactor).__name__} that the bridge is attached to has stopped"
        if runs_here(self.reactor):
            self._begin()
        elif self.reactor.running:
            self._watch_the_end()  # it may be stopping, and never run the function that is posted
            self.reactor.callFromThread(self._record)
        else:  # the trigger comes before the callbacks of others, and also if the reactor crashes in its start
            self.reactor.addSystemEventTrigger("after", "startup", self._begin)
            self.reactor.callFromThread(self._begin)

    @property
    def name(self) -> str:
        """What to call the reactor's thread in a log."""
        return f"of the {type(self.reactor).__name__}"

    def check(self) -> None:
        """Check before each call whether this is the reactor's thread."""
        if self.ident is None and runs_here(self.reactor):  # the reactor has not run the posted _begin() yet
            self.ident = native.get_ident()

    def explained(self, error: BaseException, x: Any) -> BaseException:
        """Return the error for the caller. If asyncio raised it since no loop runs, return one with the reason."""
        if isinstance(error, RuntimeError) and _misses_a_loop(error):
            explained = _without_a_loop(x, self.reactor)
            explained.__cause__ = error
            return explained
        return error

    def refusal_here(self, call: str) -> BridgeError:
        """Return the error for a call on the reactor's own thread."""
        return StrategyUnavailable(
            f"{call} was called on the thread of the {type(self.reactor).__name__} that the bridge is "
            "attached to, and only on a loop of ours can a stack be put aside; await the Deferred or return it, or "
            "call the blocking code in a thread: deferToThread(function)" + at("cannot-switch-stacks")
        )

    def detach(self, reason: str) -> None:
        """Fail the open calls and refuse further ones."""
        super().detach(reason)
        if self._trigger is not None and self.reactor.running and self.state is not LOST:
            self.reactor.callFromThread(self._forget)

    def _begin(self) -> None:
        """Record the thread, and watch for the end. Called on the reactor's thread while the reactor runs."""
        if self._record():
            self._watch_the_end()

    def _record(self) -> bool:
        """Record the reactor's thread, the first time. Called there while the reactor runs."""
        self.ident = native.get_ident()
        if not self.move(SERVE):
            return False
        # In the phase "before", as the shutdown later joins threads that may be blocked in calls to this run.
        self._trigger = self.reactor.addSystemEventTrigger("before", "shutdown", self._stopped)
        return True

    def _forget(self) -> None:
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            try:
                self.reactor.removeSystemEventTrigger(trigger)
            except (KeyError, ValueError, TypeError):  # the trigger is firing at this moment
                pass

    def _stopped(self) -> Any:
        """Fail the open calls because the reactor stops, and give their tasks time to clean up."""
        self._trigger = None
        self.loop.has_ended = True  # type: ignore[attr-defined]
        self.end(self._reason)
        tasks = end_tasks(self.loop, self.loop.time() + self.shutdown_timeout, _pending_tasks)
        if tasks.done():
            self._ended(tasks)
            return None
        from .._twisted.deferreds import Deferred

        ended: Deferred[None] = Deferred()
        tasks.add_done_callback(self._ended)
        tasks.add_done_callback(lambda _: ended.callback(None))
        return ended

    def _ended(self, tasks: asyncio.Future[list[Any]]) -> None:
        if left := tasks.result():
            log.warning(
                "%r ended after %s seconds without: %s" + at("slow-end"), self.loop, self.shutdown_timeout, left
            )
        self._orphans.clear()
        self.move(FINISH)

    def _watch_the_end(self) -> None:
        native.Thread(target=self._watch, name="bridge-watch", daemon=True).start()

    def _watch(self) -> None:
        while not self.state.is_over and self.reactor.running:
            native.sleep(_CHECK)
        if not self.state.is_over:
            self.end(self._reason)
            self.move(FINISH)


def runs_here(reactor: Any) -> bool:
    """Return whether the calling stack is inside the reactor's main loop."""
    if not reactor.running:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        method: Any = getattr(cast(object, type(reactor)), code.co_name, None)
        if getattr(method, "__code__", None) is code and frame.f_locals.get(code.co_varnames[0]) is reactor:
            return True
        frame = frame.f_back
    return False
