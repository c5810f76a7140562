"""The private names of others that the package stands on, as bridge._private lists them, each with what it relies on.

A failure here says which module has to be looked at for a new version of Python, Twisted or anyio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from asyncio import events, selector_events, tasks
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as executor_threads
from contextvars import copy_context
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio._backends import _asyncio as anyio_backend
from twisted.internet import defer, posixbase
from twisted.internet import process as twisted_process
from twisted.internet._resolver import GAIResolver
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.defer import Deferred, DeferredList, fail, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import LogEvent, globalLogBeginner, globalLogPublisher
from twisted.python import context as twisted_context
from twisted.python.failure import Failure
from twisted.python.log import PythonLoggingObserver
from twisted.python.threadpool import ThreadPool

import bridge
from bridge import Bridge
from bridge._loop import switching
from bridge._loop.base import start_task
from bridge._private import twisted as names_of_twisted
from bridge._private.abilities import compare_again, lost
from bridge._private.rows import SWITCHING

PACKAGE = Path(bridge.__file__).parent


def check(holds: object, name: str, user: str, relied_on: str = "it is there") -> None:
    """Fail with a message that says which module stands on the name, and in which way."""
    if not holds:
        here = f"Python {sys.version.split()[0]}, Twisted {version('twisted')}, anyio {version('anyio')}"
        pytest.fail(f"{name}: with {here} it no longer holds that {relied_on}; bridge/{user} stands on that", False)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the standard library's."""
    new = asyncio.SelectorEventLoop()
    yield new
    new.close()


@pytest.fixture
def reactor(loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """A reactor of Twisted's own on that loop."""
    new = AsyncioSelectorReactor(loop)
    yield new
    new.waker.connectionLost(None)


def test_the_tests_that_docstrings_name_exist() -> None:
    named = [
        (path.relative_to(PACKAGE), *found)
        for path in PACKAGE.rglob("*.py")
        for found in re.findall(r"(test_\w+\.py)::(test_\w+)", path.read_text())
    ]
    assert named
    for path, file, function in named:
        texts = [there.read_text() for there in Path(__file__).parents[1].rglob(file)]
        if not any(f"def {function}(" in text for text in texts):
            pytest.fail(f"bridge/{path} names {file}::{function}, which does not exist", False)


# --- asyncio


def test_future_blocking_flag(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    check(not future._asyncio_future_blocking, "Future._asyncio_future_blocking", "task.py")
    assert next(future.__await__()) is future
    check(
        future._asyncio_future_blocking,
        "Future._asyncio_future_blocking",
        "task.py",
        "a task is given a Future to wait for with this set",
    )


def test_task_fut_waiter(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        future = loop.create_future()

        async def waiting() -> None:
            await future

        task = loop.create_task(waiting())
        await asyncio.sleep(0)
        relied_on = "a task that waits shows the Future that it waits for"
        check(getattr(task, "_fut_waiter", None) is future, "Task._fut_waiter", "task.py", relied_on)
        future.set_result(None)
        await task

    loop.run_until_complete(main())


def test_plain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """A task of C's own class, which the loop of ours has not made."""
    user = "asyncio_tasks.py"
    seen: list[Any] = []

    async def work() -> None:
        frame: Any = sys._getframe()
        while frame is not None and frame.f_code is not events.Handle._run.__code__:
            frame = frame.f_back
        holds = frame is not None and getattr(frame.f_locals["self"]._callback, "__self__", None) is task
        check(holds, "Handle._callback", user, "a step of a task belongs to the task by __self__")
        await asyncio.Event().wait()

    async def awaiting() -> None:
        await task

    async def main() -> None:
        task.cancel = lambda msg=None: seen.append(msg)  # type: ignore[method-assign, assignment]
        outer = loop.create_task(awaiting())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel("by way of the attribute")
        relied_on = "C looks a method up on the task's own attributes"
        check("by way of the attribute" in seen, "attributes of a C task", user, relied_on)
        del task.cancel
        current: Any = asyncio.current_task()
        check(current._must_cancel is False, "Task._must_cancel", user, "it is False in a task that nobody cancels")
        current.cancel("the first message")
        holds = current._must_cancel is True and current._cancel_message == "the first message"
        check(holds, "Task._must_cancel", user, "it is True in a task that has cancelled itself")
        current._cancel_message = "the second message"
        with pytest.raises(asyncio.CancelledError, match="the second message"):
            await asyncio.sleep(0)
        current.uncancel()
        outer.cancel()
        task.cancel()
        await asyncio.wait([task, outer])

    task: asyncio.Task[None] = asyncio.Task(work(), loop=loop)
    loop.run_until_complete(main())


def test_repr_shows_the_coroutine() -> None:
    async def coroutine_of_the_user() -> str:
        return repr(asyncio.current_task())

    with Bridge(install_reactor=False) as one:
        shown = one.block_on(one.block_on(lambda: [one.loop.create_task(coroutine_of_the_user(), name="a name")])[0])
    holds = "coroutine_of_the_user() running" in shown and "name='a name'" in shown
    check(holds, "Task._coro", "task.py", f"a task's repr shows this coroutine and name (it shows {shown})")


def test_first_step_runs_at_once() -> None:
    steps: list[str] = []

    async def stepping() -> None:
        steps.append("first step")
        await asyncio.sleep(0)

    def start() -> list[str]:
        one.submit(start_task(one.loop, stepping(), copy_context()))
        return steps.copy()

    with Bridge(install_reactor=False) as one:
        holds = one.block_on(start) == ["first step"]
    check(holds, "Task", "base.py", "start_task() takes the first step before it returns")


def test_check_closed(loop: asyncio.AbstractEventLoop) -> None:
    name, user = "BaseEventLoop._check_closed", "base.py"
    check(hasattr(loop, "_check_closed"), name, user)
    loop._check_closed()  # type: ignore[attr-defined]
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop._check_closed()  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll; run it on Linux")
def test_epoll_of_a_loop(loop: Any) -> None:
    selector = getattr(loop, "_selector", None)
    check(selector is not None, "BaseSelectorEventLoop._selector", "base.py")
    epoll = getattr(selector, "_selector", None)
    check(isinstance(epoll, select.epoll), "EpollSelector._selector", "base.py", "it is the select.epoll object")


def test_ready_handles(loop: Any) -> None:
    def callback() -> None:
        raise AssertionError

    check(hasattr(loop, "_ready"), "BaseEventLoop._ready", "reactor.py")
    loop.call_soon_threadsafe(callback)
    found = [getattr(handle, "_callback", None) for handle in loop._ready]
    check(found == [callback], "Handle._callback", "reactor.py", "_ready has the handles of what is to be called")


def test_default_executor_names(loop: Any) -> None:
    check(loop._default_executor is None, "BaseEventLoop._default_executor", "base.py", "there is none at first")
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        check(loop._default_executor is executor, "BaseEventLoop._default_executor", "base.py", "it is what was set")
        loop.run_until_complete(loop.shutdown_default_executor())
    relied_on = "it is set when the default executor has been shut down"
    check(loop._executor_shutdown_called, "BaseEventLoop._executor_shutdown_called", "base.py", relied_on)


def test_call_from_thread_leaves_a_lambda_with_the_loop(loop: Any, reactor: Any) -> None:
    reactor.callFromThread(print)
    (handle,) = loop._ready
    code = AsyncioSelectorReactor.callFromThread.__code__
    relied_on = "it gives the loop a function that is one of its constants and that has the reactor in its closure"
    holds = handle._callback.__code__ in code.co_consts and reactor in [
        cell.cell_contents for cell in handle._callback.__closure__
    ]
    check(holds, "AsyncioSelectorReactor.callFromThread", "reactor.py", relied_on)


def test_swap_names(loop: Any) -> None:
    check(not lost(SWITCHING), ", ".join(lost(SWITCHING)), "switching.py")
    for name in ("_ready", "_stopping"):
        check(hasattr(loop, name), f"BaseEventLoop.{name}", "switching.py")
    loop.call_soon(loop._ready.clear)
    loop.call_soon(print)
    try:
        loop._run_once()
    except IndexError:
        return
    check(False, "BaseEventLoop._run_once", "switching.py", "it raises IndexError where its handles are gone")


def test_task_of_python() -> None:
    check(hasattr(tasks, "_PyTask"), "asyncio.tasks._PyTask", "attached.py", "it steps on a loop that does not run")


@pytest.mark.parametrize("name", ["_run", "_context", "_callback", "_args", "_cancelled", "_source_traceback"])
def test_handle_names(loop: asyncio.AbstractEventLoop, name: str) -> None:
    check(hasattr(loop.call_soon(print), name), f"Handle.{name}", "switching.py")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (asyncio.BaseEventLoop, "_run_once"),
        (asyncio.BaseEventLoop, "_add_callback"),
        (selector_events.BaseSelectorEventLoop, "_add_reader"),
        (events.Handle, "_run"),
        (tasks, "_enter_task"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_name_that_has_gone_is_found_missing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    compare_again()
    monkeypatch.delattr(owner, name)
    try:
        (fault,) = lost(SWITCHING)
        assert fault.endswith(f".{name} is missing")
    finally:
        compare_again()


def test_what_nest_asyncio_replaces_is_asyncios_base_and_in_c(loop: asyncio.AbstractEventLoop) -> None:
    for name in ("_check_running", "_run_once", "run_forever", "run_until_complete"):
        holds = getattr(type(loop), name) is getattr(asyncio.BaseEventLoop, name)
        check(holds, f"BaseEventLoop.{name}", "_loop/base.py", "the standard loop has this one")
    for name in ("Future", "Task"):
        holds = getattr(asyncio, name) is getattr(importlib.import_module("_asyncio"), name)
        check(holds, f"_asyncio.{name}", "_loop/task.py", "it is the one in asyncio")


def test_current_task_may_be_left_and_entered(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[object]:
        task = asyncio.current_task()
        assert task is not None
        tasks._leave_task(loop, task)  # type: ignore[attr-defined]
        without = asyncio.current_task()
        tasks._enter_task(loop, task)  # type: ignore[attr-defined]
        return [without, asyncio.current_task() is task]

    holds = loop.run_until_complete(main()) == [None, True]
    check(
        holds,
        "asyncio.tasks._leave_task",
        "switching.py",
        "a task can be left and entered in the midst of its step",
    )


# --- concurrent.futures


@pytest.mark.parametrize("name", ["_adjust_thread_count", "_threads"])
def test_executor_names(name: str) -> None:
    with ThreadPoolExecutor(1) as executor:
        check(hasattr(executor, name), f"ThreadPoolExecutor.{name}", "workers.py")


def test_executor_threads() -> None:
    check(hasattr(executor_threads, "_threads_queues"), "concurrent.futures.thread._threads_queues", "workers.py")
    with ThreadPoolExecutor(1) as executor:
        thread = executor.submit(threading.current_thread).result(5)
        holds = executor._threads == {thread} and thread in executor_threads._threads_queues  # type: ignore[attr-defined]
        relied_on = "it has the threads that the interpreter joins as it exits"
        check(holds, "concurrent.futures.thread._threads_queues", "workers.py", relied_on)
    with Bridge(install_reactor=False) as one:
        thread = one.block_on(asyncio.to_thread(threading.current_thread))
        assert thread.is_alive()
        assert thread not in executor_threads._threads_queues  # type: ignore[attr-defined]


def test_worker_of_an_executor() -> None:
    """Its arguments are passed in a process that gevent has patched, where the worker runs in a thread of ours."""
    parameters = list(inspect.signature(executor_threads._worker).parameters)  # type: ignore[attr-defined]
    if sys.version_info >= (3, 14):
        expected = ["executor_reference", "ctx", "work_queue"]
    else:
        expected = ["executor_reference", "work_queue", "initializer", "initargs"]
    check(parameters == expected, "concurrent.futures.thread._worker", "workers.py", "it takes these arguments")
    names = ["_work_queue", "_shutdown_lock", "_idle_semaphore", "_max_workers", "_thread_name_prefix"]
    if sys.version_info >= (3, 14):
        names.append("_create_worker_context")
    with ThreadPoolExecutor(1) as executor:
        for name in names:
            check(hasattr(executor, name), f"ThreadPoolExecutor.{name}", "workers.py")


# --- Twisted


def test_debug_info() -> None:
    """One that stands there already is told of the failure that is left when all callbacks have run."""
    told: list[object] = []

    class Info(defer.DebugInfo):
        def __setattr__(self, name: str, value: object) -> None:
            told.append((name, value))

    deferred: Deferred[None] = Deferred()
    failure = Failure(LookupError())
    deferred._debugInfo = Info()
    deferred.errback(failure)
    check(("failResult", failure) in told, "defer.DebugInfo", "deferreds.py", "the failure is noted in it")
    with pytest.raises(LookupError):
        next(iter(deferred))
    check(told[-1] == ("failResult", None), "defer.DebugInfo", "deferreds.py", "an await takes the note back")


def test_deferred_fail_result() -> None:
    unhandled: list[Failure] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            unhandled.append(event["log_failure"])

    deferred: Deferred[Any] = fail(LookupError())
    info = getattr(deferred, "_debugInfo", None)
    holds = info is not None and isinstance(getattr(info, "failResult", None), Failure)
    check(holds, "Deferred._debugInfo.failResult", "deferreds.py", "it has the failure that nobody has handled")
    globalLogPublisher.addObserver(observe)
    try:
        assert info is not None
        info.failResult = None
        del deferred, info
    finally:
        globalLogPublisher.removeObserver(observe)
    check(not unhandled, "Deferred._debugInfo.failResult", "deferreds.py", "a failure is not logged once it is None")


def test_deferred_running_callbacks() -> None:
    seen: list[bool] = []

    def callback(_: object) -> None:
        frame = sys._getframe().f_back
        while frame is not None and frame.f_code is not Deferred._runCallbacks.__code__:
            frame = frame.f_back
        seen.append(frame is not None and deferred in frame.f_locals.get("chain", ()) and deferred._runningCallbacks)

    deferred: Deferred[None] = Deferred()
    deferred.addCallback(callback).callback(None)
    relied_on = "its local 'chain' has the Deferred whose callback runs, and _runningCallbacks is set"
    check(seen == [True], "Deferred._runCallbacks", "in_place.py", relied_on)


def test_context_tracker_contexts() -> None:
    tracker: Any = twisted_context.theContextTracker.currentContext()
    check(isinstance(getattr(tracker, "contexts", None), list), "ContextTracker.contexts", "switching.py")
    before = len(tracker.contexts)
    twisted_context.call(
        {"key": "value"},
        lambda: check(
            len(tracker.contexts) == before + 1,
            "ContextTracker.contexts",
            "switching.py",
            "a call pushes one more on it",
        ),
    )


REACTOR_NAMES = sorted(
    {row.name for row in names_of_twisted.NAMES if row.owner.endswith(("AsyncioSelectorReactor", ":ReactorBase"))}
)


@pytest.mark.parametrize("name", [*REACTOR_NAMES, "threadCallQueue", "waker"])
def test_reactor_names(reactor: Any, name: str) -> None:
    check(hasattr(reactor, name), f"ReactorBase.{name}", "reactor.py")


def test_reactor_methods_are_those_that_are_overridden() -> None:
    for owner, name in (
        (PosixReactorBase, "crash"),
        (ReactorBase, "wakeUp"),
        (ReactorBase, "callFromThread"),
        (ReactorBase, "_insertNewDelayedCalls"),
        (ReactorBase, "_initThreadPool"),
    ):
        check(callable(getattr(owner, name, None)), f"{owner.__name__}.{name}", "reactor.py")


def test_guard_names(reactor: Any) -> None:
    relied_on = "it holds the resolver that nameResolver returns, and the default one is a GAIResolver"
    holds = reactor._nameResolver is reactor.nameResolver and type(reactor._nameResolver) is GAIResolver
    check(holds, "PluggableResolverMixin._nameResolver", "guard.py", relied_on)
    is_property = isinstance(inspect.getattr_static(ReactorBase, "nameResolver"), property)
    check(is_property, "PluggableResolverMixin.nameResolver", "guard.py", "it is a property")
    check(reactor._nameResolver._reactor is reactor, "GAIResolver._reactor", "guard.py", "it is the reactor")
    call = reactor.callLater(1000, print)
    check(
        call.canceller.__self__ is reactor,
        "DelayedCall.canceller",
        "guard.py",
        "it is a method of the reactor",
    )
    call.cancel()


@pytest.mark.process
def test_child_names(reactor: Any) -> None:
    user = "children.py"
    child = reactor.spawnProcess(ProcessProtocol(), "sleep", ["sleep", "1000"], env=None)
    holds = twisted_process.reapProcessHandlers.get(child.pid) is child and child._reactor is reactor
    check(holds, "process.reapProcessHandlers", user, "it has the children that are not reaped, each with its reactor")
    relied_on = "it takes the status of a child that has ended, tells the protocol and takes the child off that table"
    pid = child.pid
    child.signalProcess("KILL")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    child.reapProcess()
    holds = pid not in twisted_process.reapProcessHandlers and child.pid is None and os.WTERMSIG(child.status) == 9
    check(holds, "process._BaseProcess.reapProcess", user, relied_on)
    for pipe in list(child.pipes.values()):
        pipe.connectionLost(Failure(ConnectionDone()))
    # Not one that may end before its constructor does, which would reap it.
    terminal = reactor.spawnProcess(ProcessProtocol(), "sleep", ["sleep", "1000"], env=None, usePTY=True)
    check(terminal.reactor is reactor, "process.PTYProcess.reactor", user, "it is the reactor")
    terminal.signalProcess("KILL")
    os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOWAIT)
    terminal.reapProcess()
    terminal.connectionLost(Failure(ConnectionDone()))


def test_signal_handling_has_a_default_on_the_class() -> None:
    relied_on = "a reactor without an own one handles no signals"
    default = vars(ReactorBase).get("_signals")
    check(type(default).__name__ == "_WithoutSignalHandling", "ReactorBase._signals", "reactor.py", relied_on)


def test_continuous_polling(reactor: Any) -> None:
    check(hasattr(posixbase, "_ContinuousPolling"), "posixbase._ContinuousPolling", "reactor.py")
    assert type(reactor._continuousPolling) is posixbase._ContinuousPolling


@pytest.mark.parametrize("name", ["canceller", "resetter"])
def test_delayed_call_names(reactor: Any, name: str) -> None:
    call = reactor.callLater(1, print)
    assert type(call) is DelayedCall
    expected = {"canceller": "_cancelCallLater", "resetter": "_moveCallLaterSooner"}[name]
    check(getattr(call, name, None) == getattr(reactor, expected), f"DelayedCall.{name}", "reactor.py")
    call.cancel()


@pytest.mark.parametrize("phase", ["before", "during", "after"])
def test_trigger_names(reactor: Any, phase: str) -> None:
    reactor.addSystemEventTrigger(phase, "an event", print, 1, key=2)
    event = reactor._eventTriggers["an event"]
    relied_on = "it is a list of (function, arguments, keyword arguments)"
    holds = getattr(event, phase, None) == [(print, (1,), {"key": 2})]
    check(holds, f"_ThreePhaseEvent.{phase}", "reactor.py", relied_on)


# --- anyio


def in_anyio_worker(function: Callable[[asyncio.AbstractEventLoop, Any], Any]) -> Any:
    """Call the function with loop and scope in a worker thread of anyio's, whose work was given in that scope."""

    async def main() -> Any:
        with anyio.CancelScope() as scope:
            return await anyio.to_thread.run_sync(function, asyncio.get_running_loop(), scope)

    return anyio.run(main)


def test_worker_thread_loop() -> None:
    def in_worker(loop: asyncio.AbstractEventLoop, scope: Any) -> None:
        thread: Any = threading.current_thread()
        check(
            isinstance(thread, anyio_backend.WorkerThread),
            "WorkerThread",
            "worker_threads.py",
            "it runs the work",
        )
        holds = getattr(thread, "loop", None) is loop
        check(holds, "WorkerThread.loop", "worker_threads.py", "it is the loop that the work came from")

    in_anyio_worker(in_worker)


def test_worker_thread_scope() -> None:
    def in_worker(loop: asyncio.AbstractEventLoop, scope: Any) -> None:
        found = getattr(anyio_backend.threadlocals, "current_cancel_scope", None)
        relied_on = "current_cancel_scope is the scope that the work was given in"
        check(found is scope, "threadlocals", "worker_threads.py", relied_on)

    in_anyio_worker(in_worker)


ANYIO_WORKER_NAMES = ["WorkerThread", "find_root_task", "_threadpool_idle_workers", "_threadpool_workers"]


@pytest.mark.parametrize("name", ANYIO_WORKER_NAMES)
def test_anyio_worker_names(name: str) -> None:
    check(hasattr(anyio_backend, name), f"anyio._backends._asyncio.{name}", "anyio_workers.py")


def test_anyio_takes_its_workers_from_a_list_of_ours() -> None:
    from bridge._loop import anyio_workers

    meeting = threading.Barrier(3)

    def work() -> threading.Thread:
        meeting.wait(10)
        return threading.current_thread()

    async def main() -> None:
        anyio_workers.use_here()
        used: set[threading.Thread] = set()

        async def one() -> None:
            used.add(await anyio.to_thread.run_sync(work))

        for _ in range(2):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(one)
        relied_on = "a worker is taken from it, and put back"
        name = "_threadpool_idle_workers"
        holds = len(used) == 3 and {type(each) for each in used} == {anyio_workers._Worker}
        check(holds, name, "anyio_workers.py", relied_on)
        idle: Any = anyio_backend._threadpool_idle_workers.get()
        assert set(idle) == used == anyio_backend._threadpool_workers.get()
        idle[0].idle_since -= 1000
        gone, kept = idle[0], idle[1]
        await anyio.to_thread.run_sync(lambda: None)
        gone.join(10)
        check(not gone.is_alive() and kept in idle, name, "anyio_workers.py", "those long idle are taken off it")
        threads.extend(used)

    threads: list[threading.Thread] = []
    anyio.run(main)
    for each in threads:
        each.join(10)
    check(
        not any(each.is_alive() for each in threads),
        "WorkerThread.stop",
        "anyio_workers.py",
        "it ends the worker",
    )


@pytest.mark.parametrize("is_patched", [False, True])
def test_portal_names(is_patched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of a portal goes through a method for which we have another."""
    from bridge._calls import conditions

    monkeypatch.setattr(conditions, "is_patched", lambda: is_patched)
    started: list[Any] = []

    async def main() -> int:
        async with anyio.from_thread.BlockingPortal() as portal:

            def block_on(coro: Any) -> None:
                started.append(coro)
                anyio.from_thread.run(lambda: coro)

            conditions.serve_portal(portal, block_on)
            future = await anyio.to_thread.run_sync(portal.start_task_soon, len, "seven")
            assert type(future) is conditions.PatientFuture
            return await anyio.to_thread.run_sync(portal.call, len, "seven")

    holds = anyio.run(main) == 5 and len(started) == (2 if is_patched else 0)
    check(holds, "BlockingPortal._spawn_task_from_thread", "conditions.py", "every call of a portal is started by it")


@pytest.mark.parametrize("name", ["_task_states", "TaskState", "WorkerThread", "threadlocals"])
def test_anyio_names(name: str) -> None:
    check(hasattr(anyio_backend, name), f"anyio._backends._asyncio.{name}", "worker_threads.py")


@pytest.mark.parametrize("name", ["_tasks", "_parent_scope", "_deliver_cancellation"])
def test_scope_names(name: str) -> None:
    check(hasattr(anyio_backend.CancelScope(), name), f"CancelScope.{name}", "worker_threads.py")


def test_scope_tasks() -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            task = asyncio.current_task()
            relied_on = "it has the tasks that stand in the scope"
            check(getattr(scope, "_tasks", None) == {task}, "CancelScope._tasks", "worker_threads.py", relied_on)
            state = anyio_backend._task_states[task]  # type: ignore[index]
            relied_on = "it knows the scope that a task stands in"
            check(state.cancel_scope is scope, "_task_states", "worker_threads.py", relied_on)
            made = anyio_backend.TaskState(None, scope)
            check(made.cancel_scope is scope, "TaskState", "worker_threads.py", "it takes a parent's id and a scope")

    anyio.run(main)


def test_native_names() -> None:
    started = threading.Event()
    function = getattr(importlib.import_module("_thread"), "start_new_thread", None)
    check(function is not None, "_thread.start_new_thread", "native.py")
    function(started.set, ())  # type: ignore[misc]
    check(started.wait(10), "_thread.start_new_thread", "native.py", "it starts a thread")


def test_pool_names() -> None:
    threads = importlib.import_module("twisted._threads")
    pool_class: Any = importlib.import_module("twisted.python.threadpool").ThreadPool
    for name in ("Team", "LockWorker", "ThreadWorker"):
        check(hasattr(threads, name), f"twisted._threads.{name}", "pool.py")
    made: list[Any] = []
    pool = pool_class(0, 3, "name")
    pool._pool = lambda limit, factory: made.append((limit(), factory)) or "team"
    pool.__init__(pool.min, pool.max, pool.name)
    relied_on = "a new pool makes its team by it"
    check(pool._team == "team" and made[0][0] == 0, "ThreadPool._pool", "pool.py", relied_on)


def test_signal_functions() -> None:
    functions = importlib.import_module("_signal")
    before = signal.getsignal(signal.SIGUSR1)
    mine = [lambda number, frame: None]
    for name in ("signal", "getsignal"):
        check(hasattr(functions, name), f"_signal.{name}", "strategies/gui.py")
    try:
        functions.signal(int(signal.SIGUSR1), mine[0])
        relied_on = "they are what signal.signal and signal.getsignal call"
        check(signal.getsignal(signal.SIGUSR1) is mine[0], "_signal.signal", "strategies/gui.py", relied_on)
        seen = functions.getsignal(int(signal.SIGUSR1))
        check(seen is mine[0], "_signal.getsignal", "strategies/gui.py", relied_on)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("make", [switching.SwitchingLoop, bridge.new_event_loop])
def test_a_loop_has_few_attributes(make: Callable[[], Any]) -> None:
    async def count() -> int:
        return len(vars(asyncio.get_running_loop()))

    def counted(loop: Any) -> int:
        try:
            return int(loop.run_until_complete(count()))
        finally:
            loop.close()

    # CPython finds all of them more slowly if there are 30 or more: call_soon() took 1.35 times as long on 3.14, where
    # asyncio's loop has 27. Attributes of our own belong in Ours, Streams or Stacks (bridge/_loop/base.py), properties
    # if others use them.
    assert counted(make()) - counted(asyncio.SelectorEventLoop()) <= 2


# --- what the reports look at


def test_the_chain_behind_what_is_awaited(loop: asyncio.AbstractEventLoop) -> None:
    user = "chains.py"
    unfired: Deferred[None] = Deferred()

    @inlineCallbacks
    def generator() -> Any:
        yield unfired

    waiting: Any = generator()
    code, cells = waiting._canceller.__code__, waiting._canceller.__closure__
    check("status" in code.co_freevars, "_cancellableInlineCallbacks", user, "its canceller knows a status")
    status = cells[code.co_freevars.index("status")].cell_contents
    check(status.waitingOn is unfired, "_CancellationStatus.waitingOn", user)
    callbacks: Any = getattr(unfired, "_callbacks", None) or unfired.callbacks
    args = callbacks[0][0][1]
    relied_on = "it is called with (waiting, gen, status, ...)"
    check(args[1].gi_frame and args[2] is status, "_gotResultInlineCallbacks", user, relied_on)
    of_a_future: Any = Deferred.fromFuture(loop.create_future())
    in_canceller = "future" in of_a_future._canceller.__code__.co_freevars
    check(in_canceller, "Deferred.fromFuture", user, "its canceller has the Future")
    outer: Any = Deferred()
    outer.addCallback(lambda _: unfired)
    outer.callback(None)
    check(outer._chainedTo is unfired, "Deferred._chainedTo", user)
    check(DeferredList([unfired])._deferredList == [unfired], "DeferredList._deferredList", user)
    unfired.callback(None)

    async def main() -> None:
        future = loop.create_future()
        gathered: Any = asyncio.gather(future)
        check(gathered._children == [future], "_GatheringFuture._children", user)
        shielded: Any = asyncio.shield(future)
        freevars = [callback.__code__.co_freevars for callback, _ in shielded._callbacks]
        check(any("inner" in each for each in freevars), "asyncio.shield", user, "a callback of it knows the inner one")
        check("fs" in asyncio.tasks._wait.__code__.co_varnames, "asyncio.tasks._wait", user)

        async def never() -> None:
            await future

        async with asyncio.TaskGroup() as group:
            task = group.create_task(never())
            check(task in group._tasks, "TaskGroup._tasks", user)
            future.set_result(None)
        async with anyio.create_task_group() as other:
            check(other._tasks == set(), "anyio's TaskGroup._tasks", user)

    loop.run_until_complete(main())


def test_pools_that_are_looked_at(loop: asyncio.AbstractEventLoop) -> None:
    user = "locks.py"
    check(hasattr(loop, "_default_executor"), "BaseEventLoop._default_executor", user)
    with ThreadPoolExecutor(2) as executor:
        executor.submit(int).result()
        check(len(executor._threads) == 1, "ThreadPoolExecutor._threads", user)
        check(executor._max_workers == 2, "ThreadPoolExecutor._max_workers", user)
        check(executor._work_queue.qsize() == 0, "ThreadPoolExecutor._work_queue", user)
    pool: Any = ThreadPool(1, 1)
    check(pool._team.statistics().backloggedWorkCount == 0, "ThreadPool._team.statistics()", user)
    check(anyio_backend.CapacityLimiter.acquire_on_behalf_of.__code__, "CapacityLimiter.acquire_on_behalf_of", user)


# --- what the exit and a fork look at


@pytest.mark.process
def test_threading_atexit() -> None:
    """bridge/_runs/exit.py has its part in the exit before threads are joined."""
    program = Path(__file__).with_name("programs") / "order_of_exit.py"
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=20)
    assert (ended.stdout.split(), ended.stderr) == (["begun", "joined", "handlers"], "")


def test_asyncio_asks_a_future_for_a_snapshot() -> None:
    called: list[str] = []

    class Noting(concurrent.futures.Future[None]):
        def _get_snapshot(self) -> Any:
            called.append("_get_snapshot")
            return super()._get_snapshot()  # type: ignore[misc]

    future = Noting()

    async def main() -> None:
        future.set_result(None)
        await asyncio.wrap_future(future)

    asyncio.run(main())
    relied_on = "from CPython 3.15 on wrap_future() takes the outcome by it"
    is_so = bool(called) == (sys.version_info >= (3, 15))
    check(is_so, "concurrent.futures.Future._get_snapshot", "submit.py", relied_on)


def test_concurrent_future_names() -> None:
    """bridge/_calls/submit.py looks who waits for a Future, and lets go of one in a forked child."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    assert not future._condition._waiters
    waiting = threading.Thread(target=future.result)
    waiting.start()
    while not future._condition._waiters:
        time.sleep(0.001)
    other = threading.Thread(target=concurrent.futures.wait, args=([future],))
    other.start()
    while not future._waiters:
        time.sleep(0.001)
    future.add_done_callback(print)
    assert future._done_callbacks == [print]
    future._done_callbacks.clear()
    future.set_result(None)
    waiting.join()
    other.join()


def test_waiters_of_a_future() -> None:
    """bridge/_calls/completed.py stands among the waiters of a Future, and reads its state without the lock."""

    class Waiter:
        def __init__(self) -> None:
            self.told: list[tuple[str, object, str, bool]] = []

        def _tell(self, kind: str, future: Any) -> None:
            self.told.append((kind, future, future._state, future._condition._is_owned()))

        def add_result(self, future: Any) -> None:
            self._tell("result", future)

        def add_exception(self, future: Any) -> None:
            self._tell("exception", future)

        def add_cancelled(self, future: Any) -> None:
            self._tell("cancelled", future)

    waiter = Waiter()
    futures: list[Any] = [concurrent.futures.Future() for _ in range(3)]
    for future in futures:
        future._waiters.append(waiter)
        assert future._state == "PENDING"
        assert future._exception is None
    error = LookupError()
    futures[0].set_result(None)
    futures[1].set_exception(error)
    futures[2].cancel()
    futures[2].set_running_or_notify_cancel()
    assert waiter.told == [
        ("result", futures[0], "FINISHED", True),
        ("exception", futures[1], "FINISHED", True),
        ("cancelled", futures[2], "CANCELLED_AND_NOTIFIED", True),
    ]
    assert futures[1]._exception is error
    # One call of C each, though a Condition of the standard library's is entered in Python.
    assert {type(futures[0]._condition.acquire), type(futures[0]._condition.release)} == {type(len)}


def test_condition_names() -> None:
    """_threads/condition.py has the lock and the condition in one object, and notifies by the methods of the latter."""
    lock: Any = threading.RLock()
    with lock, lock:
        assert lock._is_owned()
        saved = lock._release_save()
        assert not lock._is_owned()
        lock._acquire_restore(saved)
        assert lock._is_owned()
    assert not lock._is_owned()
    condition: Any = threading.Condition()
    waiter = threading.Lock()
    waiter.acquire()
    condition._waiters.append(waiter)
    with condition:
        condition.notify_all()
    assert not waiter.locked()
    assert not condition._waiters


def test_event_names() -> None:
    """bridge/strategies/event.py waits by a lock of its own that the event releases."""
    event: Any = threading.Event()
    lock = threading.Lock()
    lock.acquire()
    event._cond._waiters.append(lock)
    assert not event.wait(0)
    assert lock.locked()
    event.set()
    assert not lock.locked()


def test_loop_names_of_a_fork() -> None:
    """bridge/_runs/fork.py closes the child's copies of what belongs to a loop."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        assert loop._thread_id == threading.get_ident()
        assert loop._closed is False
        assert hasattr(loop, "_ready")
        assert loop._ssock.fileno() in loop._selector.get_map()
        assert loop._csock.fileno() >= 0
        one, other = socket.socketpair()
        transport: Any
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        (handle, _) = loop._selector.get_key(transport._sock.fileno()).data
        assert handle._callback.__self__ is transport
        asyncio.current_task()._log_destroy_pending = True  # type: ignore[union-attr]
        transport.close()
        other.close()
        await asyncio.sleep(0)

    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_how_twisted_begins_to_log() -> None:
    user = "logging.py"
    beginner, publisher = globalLogBeginner, globalLogPublisher
    check(beginner._initialBuffer, "LogBeginner._initialBuffer", user)
    temporary = beginner._temporaryObserver
    check(temporary is None or temporary in publisher._observers, "LogPublisher._observers", user, "it is a list")
    observer = PythonLoggingObserver()
    observer.start()
    try:
        owners = [getattr(getattr(each, "legacyObserver", None), "__self__", None) for each in publisher._observers]
        check(observer in owners, "LegacyLogObserverWrapper.legacyObserver", user)
    finally:
        observer.stop()
