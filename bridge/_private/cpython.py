"""The private names of CPython's standard library, and access to its private functions.

Other modules of the package read private attributes of a loop, a task or a handle directly, since a function in between
would cost time in each iteration of the loop. They import private functions from here, where :func:`__getattr__` looks
them up. A function that is gone is None. So its users call :func:`~bridge._private.abilities.lost` first.
"""

from __future__ import annotations

import importlib
import select
import sys
from typing import TYPE_CHECKING, Any

from .rows import (
    CHILDREN,
    DEADLOCKS,
    EVENTS,
    EXIT,
    FOREIGN_REACTORS,
    FORK,
    FUTURES,
    GEVENT,
    GUIS,
    INTERRUPTS,
    PYTHON_TASKS,
    REPORTS,
    SWITCHING,
    TASKS,
    WAKE_UPS,
    Name,
)

_LOOP, _SELECTOR_LOOP = "asyncio.base_events:BaseEventLoop", "asyncio.selector_events:BaseSelectorEventLoop"
_HANDLE, _TIMER, _TASK = "asyncio.events:Handle", "asyncio.events:TimerHandle", "asyncio:Task"
_CHILD = "asyncio.base_subprocess:BaseSubprocessTransport"
_FUTURE, _POOL = "concurrent.futures:Future", "concurrent.futures.thread:ThreadPoolExecutor"
_ALL = "CPython 3.11 to 3.15"

NAMES: tuple[Name, ...] = (
    # A loop whose stacks switch.
    Name(_LOOP, "_run_once", "overrides", SWITCHING, "runners iterate the loop in its place", 1, _ALL),
    Name(_LOOP, "_ready", "sets", SWITCHING, "a stack that waits stands in the loop's queue", 0, _ALL),
    Name(_LOOP, "_check_closed", "overrides", TASKS, "the error of a closed loop says whose it was", 1, _ALL),
    Name(_LOOP, "_closed", "reads", TASKS, "the error of a closed loop says whose it was", 0, _ALL),
    Name(_LOOP, "_closed", "reads", SWITCHING, "a closed loop takes no task and no descriptor", 0, _ALL),
    Name(_LOOP, "_stopping", "sets", SWITCHING, "a runner ends when the loop is to stop", 0, _ALL),
    Name(_LOOP, "_scheduled", "reads", SWITCHING, "a turn passes in place while no timer is due", 0, _ALL),
    Name(_SELECTOR_LOOP, "_process_events", "calls", SWITCHING, "a turn passes in place", 2, _ALL),
    Name(_SELECTOR_LOOP, "_selector", "sets", SWITCHING, "a runner goes on before the loop polls again", 0, _ALL),
    Name(_LOOP, "_add_callback", "overrides", SWITCHING, "a busy stream is not read", 2, _ALL),
    Name(_SELECTOR_LOOP, "_add_reader", "overrides", SWITCHING, "a reader's handle knows its stream", 3, _ALL),
    Name(_SELECTOR_LOOP, "_add_writer", "overrides", SWITCHING, "a writer's handle knows its stream", 3, _ALL),
    Name(_SELECTOR_LOOP, "_remove_reader", "overrides", SWITCHING, "a paused stream is watched again", 2, _ALL),
    Name(_SELECTOR_LOOP, "_remove_writer", "overrides", SWITCHING, "a paused stream is watched again", 2, _ALL),
    Name(_HANDLE, "_run", "overrides", SWITCHING, "a handle knows the stack that stands in it", 1, _ALL),
    Name(_HANDLE, "_context", "sets", SWITCHING, "a context that a blocked stack is in is copied", 0, _ALL),
    Name(_HANDLE, "_callback", "reads", SWITCHING, "what could not enter its context runs in a copy", 0, _ALL),
    Name(_HANDLE, "_args", "reads", SWITCHING, "the arguments of that callback", 0, _ALL),
    Name(_HANDLE, "_cancelled", "reads", SWITCHING, "a cancelled handle is not queued", 0, _ALL),
    Name(_HANDLE, "_source_traceback", "reads", SWITCHING, "a stack in the queue has this of a handle", 0, _ALL),
    Name(_TIMER, "_when", "reads", SWITCHING, "a turn passes in place while no timer is due", 0, _ALL),
    Name("asyncio.tasks", "_enter_task", "calls", SWITCHING, "a blocked task is the current one again", 2, _ALL),
    Name("asyncio.tasks", "_leave_task", "calls", SWITCHING, "a blocked task is not the current one", 2, _ALL),
    Name("asyncio.events", "_set_running_loop", "calls", SWITCHING, "a closed loop's stacks end in it", 1, _ALL),
    Name("_asyncio", "Task", "reads", SWITCHING, "nest_asyncio hides the class in C", 0, _ALL),
    Name("_asyncio", "Future", "reads", SWITCHING, "nest_asyncio hides the class in C", 0, _ALL),
    Name(_LOOP, "_check_running", "reads", SWITCHING, "nest_asyncio replaces it in the standard loop", 0, _ALL),
    Name(_TASK, "_must_cancel", "reads", SWITCHING, "a foreign task was cancelled before it blocks", 0, _ALL),
    Name(_TASK, "_cancel_message", "sets", SWITCHING, "the message of that cancellation", 0, _ALL),
    Name(
        *(_TASK, "_exception", "reads", SWITCHING, "whether a task that cancelled itself has failed", 0),
        *("CPython 3.11 to 3.12", (0, 0), (3, 13)),
    ),
    Name(_TASK, "_fut_waiter", "reads", SWITCHING, "a cancellation comes down from a waiting task", 0, _ALL),
    Name(_TASK, "_asyncio_future_blocking", "sets", SWITCHING, "a Future that is awaited in a stack", 0, _ALL),
    # Tasks.
    Name(_TASK, "_coro", "overrides", TASKS, "the repr of a call's task shows the user's coroutine", 0, _ALL),
    Name(_TASK, "_source_traceback", "reads", TASKS, "a task is created in the user's line", 0, _ALL),
    Name(
        # Its parameters are those of the public current_task(), by which name it is defined.
        *("asyncio.tasks", "_py_current_task", "calls", PYTHON_TASKS, "the task of a step in Python", 0),
        *("CPython 3.14 to 3.15", (3, 14)),
    ),
    Name(_TASK, "_fut_waiter", "overrides", TASKS, "anyio sees what a blocked task waits for", 0, _ALL),
    Name(_TASK, "_must_cancel", "overrides", TASKS, "anyio sees a blocked task's cancellation", 0, _ALL),
    # Futures of concurrent.futures.
    Name(_FUTURE, "_condition", "sets", FUTURES, "who waits for a Future of ours waits as block_on does", 0, _ALL),
    Name(_FUTURE, "_waiters", "reads", FUTURES, "bridge.wait stands among the waiters of a Future", 0, _ALL),
    Name(_FUTURE, "_state", "reads", FUTURES, "bridge.wait reads it without the lock", 0, _ALL),
    Name(_FUTURE, "_exception", "reads", FUTURES, "bridge.wait reads it without the lock", 0, _ALL),
    Name(
        *(_FUTURE, "_get_snapshot", "overrides", FUTURES, "asyncio takes the outcome by it, so it was seen", 1),
        *("CPython 3.15", (3, 15)),
    ),
    Name("_thread:RLock", "_is_owned", "calls", INTERRUPTS, "a wait needs the lock", 1, _ALL),
    Name("_thread:RLock", "_release_save", "calls", INTERRUPTS, "a wait lets the lock go in one call of C", 1, _ALL),
    Name("_thread:RLock", "_acquire_restore", "calls", INTERRUPTS, "a wait takes the lock back", 2, _ALL),
    Name(
        *("_thread:RLock", "_recursion_count", "calls", INTERRUPTS, "an acquisition that is cut off is undone", 1),
        *("CPython 3.14", (3, 14), (3, 15)),
    ),
    # The exit of the process.
    Name("threading", "_register_atexit", "calls", EXIT, "our part comes before threads are joined", 1, _ALL),
    Name("concurrent.futures.thread", "_threads_queues", "reads", EXIT, "workers end by themselves", 0, _ALL),
    Name(_POOL, "_adjust_thread_count", "overrides", EXIT, "the loop ends its workers, not Python", 1, _ALL),
    Name(_POOL, "_threads", "reads", EXIT, "the workers that the loop waits for", 0, _ALL),
    # A process that gevent has patched.
    Name(_POOL, "_adjust_thread_count", "overrides", GEVENT, "a worker is a thread", 1, _ALL),
    Name(_POOL, "_threads", "sets", GEVENT, "the workers of a pool", 0, _ALL),
    Name(_POOL, "_work_queue", "sets", GEVENT, "a queue for threads is the pool's", 0, _ALL),
    Name(_POOL, "_shutdown_lock", "sets", GEVENT, "a lock for threads is the pool's", 0, _ALL),
    Name(_POOL, "_idle_semaphore", "reads", GEVENT, "a worker is added where none is idle", 0, _ALL),
    Name(_POOL, "_max_workers", "reads", GEVENT, "a worker is added where there may be more", 0, _ALL),
    Name(_POOL, "_thread_name_prefix", "reads", GEVENT, "the name of a worker", 0, _ALL),
    Name("threading:Semaphore", "_cond", "sets", GEVENT, "the semaphore of a pool has a lock for threads", 0, _ALL),
    Name(
        *("concurrent.futures.thread", "_worker", "calls", GEVENT, "what a worker runs", 4),
        *("CPython 3.11 to 3.13", (0, 0), (3, 14)),
    ),
    Name(
        *("concurrent.futures.thread", "_worker", "calls", GEVENT, "what a worker runs", 3),
        *("CPython 3.14 to 3.15", (3, 14)),
    ),
    Name(
        *(_POOL, "_create_worker_context", "reads", GEVENT, "an argument of what a worker runs", 0),
        *("CPython 3.14 to 3.15", (3, 14)),
    ),
    Name(_LOOP, "_executor_shutdown_called", "sets", GEVENT, "a loop whose executor has ended takes no work", 0, _ALL),
    Name(_LOOP, "_check_thread", "overrides", GEVENT, "in debug mode greenlets are of the loop's thread", 1, _ALL),
    Name(_LOOP, "_make_subprocess_transport", "overrides", CHILDREN, "a child is started past gevent", 8, _ALL),
    Name(_CHILD, "_start", "overrides", CHILDREN, "a child is started past gevent", 7, _ALL),
    Name(_CHILD, "_proc", "sets", CHILDREN, "the child that was started", 0, _ALL),
    Name(_CHILD, "_process_exited", "calls", CHILDREN, "the child has ended", 2, _ALL),
    Name(_CHILD, "_wait", "calls", CHILDREN, "a child whose start is cancelled has ended", 1, _ALL),
    # A forked child.
    Name(_LOOP, "_thread_id", "sets", FORK, "the parent's loop does not run in the child", 0, _ALL),
    Name(_LOOP, "_closed", "sets", FORK, "the parent's loop is closed in the child", 0, _ALL),
    Name(_LOOP, "_ready", "sets", FORK, "nothing of the parent's runs in the child", 0, _ALL),
    Name(_SELECTOR_LOOP, "_selector", "reads", FORK, "the child's copy of the poller is closed", 0, _ALL),
    Name(_SELECTOR_LOOP, "_ssock", "reads", FORK, "the child's copy is closed", 0, _ALL),
    Name(_SELECTOR_LOOP, "_csock", "reads", FORK, "the child's copy is closed", 0, _ALL),
    Name(
        *("asyncio.selector_events:_SelectorTransport", "_sock", "reads", FORK, "a connection's copy is closed"),
        *(0, _ALL),
    ),
    Name(_HANDLE, "_callback", "reads", FORK, "a transport is known by its reader", 0, _ALL),
    Name(_TASK, "_log_destroy_pending", "sets", FORK, "a task of the parent's is not reported", 0, _ALL),
    Name(_FUTURE, "_done_callbacks", "sets", FORK, "nothing of the parent's is called in the child", 0, _ALL),
    # Calls that cannot end, and reports of what is waited for.
    Name(_LOOP, "_thread_id", "reads", DEADLOCKS, "the thread that a loop runs in", 0, _ALL),
    Name(_LOOP, "_scheduled", "reads", DEADLOCKS, "a time limit may end what waits", 0, _ALL),
    Name(_LOOP, "_ready", "reads", DEADLOCKS, "a time limit may have come just now", 0, _ALL),
    Name(_HANDLE, "_callback", "reads", DEADLOCKS, "the task that a time limit cancels", 0, _ALL),
    Name(_HANDLE, "_cancelled", "reads", DEADLOCKS, "a time limit that is over cancels nothing", 0, _ALL),
    Name("asyncio.timeouts:Timeout", "_task", "reads", DEADLOCKS, "the task that a time limit cancels", 0, _ALL),
    Name(_TASK, "_fut_waiter", "reads", DEADLOCKS, "what a task waits for", 0, _ALL),
    Name(_TASK, "_fut_waiter", "reads", REPORTS, "what a task waits for", 0, _ALL),
    Name("asyncio.tasks:_GatheringFuture", "_children", "reads", REPORTS, "what gather() waits for", 0, _ALL),
    Name("asyncio:Future", "_callbacks", "reads", REPORTS, "what shield() waits for", 0, _ALL),
    Name("asyncio.tasks", "_wait", "reads", REPORTS, "what asyncio.wait() waits for", 0, _ALL),
    Name("asyncio.taskgroups:TaskGroup", "_tasks", "reads", REPORTS, "what a TaskGroup waits for", 0, _ALL),
    Name(_LOOP, "_thread_id", "reads", REPORTS, "the thread that a loop runs in", 0, _ALL),
    Name(_LOOP, "_default_executor", "reads", REPORTS, "a pool whose threads are all blocked", 0, _ALL),
    Name(_POOL, "_threads", "reads", REPORTS, "a pool whose threads are all blocked", 0, _ALL),
    Name(_POOL, "_max_workers", "reads", REPORTS, "a pool whose threads are all blocked", 0, _ALL),
    Name(_POOL, "_work_queue", "reads", REPORTS, "the work that waits for a thread", 0, _ALL),
    Name(_FUTURE, "_done_callbacks", "reads", REPORTS, "whether a thread works for a loop", 0, _ALL),
    Name(_FUTURE, "_waiters", "reads", REPORTS, "whether a thread waits for a Future", 0, _ALL),
    Name(_FUTURE, "_condition", "reads", REPORTS, "whether a thread stands still for a Future", 0, _ALL),
    # The rest.
    *(
        [Name("selectors:EpollSelector", "_selector", "reads", WAKE_UPS, "the alarm is edge-triggered", 0, _ALL)]
        if hasattr(select, "epoll")
        else []
    ),
    Name(_SELECTOR_LOOP, "_make_self_pipe", "overrides", WAKE_UPS, "the alarm wakes the loop", 1, _ALL),
    Name(_SELECTOR_LOOP, "_close_self_pipe", "overrides", WAKE_UPS, "the alarm wakes the loop", 1, _ALL),
    Name(_SELECTOR_LOOP, "_write_to_self", "overrides", WAKE_UPS, "the alarm wakes the loop", 1, _ALL),
    Name(_SELECTOR_LOOP, "_ssock", "sets", WAKE_UPS, "a pair of sockets is made for signal handlers only", 0, _ALL),
    Name(_SELECTOR_LOOP, "_csock", "sets", WAKE_UPS, "a pair of sockets is made for signal handlers only", 0, _ALL),
    Name(_SELECTOR_LOOP, "_internal_fds", "sets", WAKE_UPS, "the loop's own descriptors are counted", 0, _ALL),
    Name("threading:Event", "_cond", "reads", EVENTS, "a lock of ours stands among the event's waiters", 0, _ALL),
    Name("threading:Condition", "_waiters", "sets", EVENTS, "a lock of ours stands among them", 0, _ALL),
    Name("_signal", "signal", "calls", GUIS, "signal.signal takes longer than a wake-up", 2, _ALL),
    Name("_signal", "getsignal", "calls", GUIS, "signal.getsignal takes longer than a wake-up", 1, _ALL),
    Name("tkinter", "_default_root", "reads", GUIS, "the root window of a program", 0, _ALL, of_loaded=True),
    Name(
        *("prompt_toolkit.eventloop.inputhook:InputHookSelector", "_r", "reads", GUIS, "the pipe of IPython's prompt"),
        *(0, "prompt_toolkit 3.0.41 to 3.0.52"),
        of_loaded=True,
    ),
    Name(_SELECTOR_LOOP, "_selector", "reads", GUIS, "the selector of IPython's prompt", 0, _ALL),
    Name(
        *("asyncio.events:AbstractEventLoop", "_timer_handle_cancelled", "overrides", FOREIGN_REACTORS),
        *("what stands in for a loop counts no timers", 2, _ALL),
    ),
    Name(_HANDLE, "_run", "calls", FOREIGN_REACTORS, "a reactor without a loop calls what is due", 1, _ALL),
    Name(
        *("asyncio.tasks", "_PyTask", "reads", FOREIGN_REACTORS, "it takes a step where no loop runs"),
        *(0, "CPython 3.14 to 3.15", (3, 14)),
    ),
)

# Private functions and classes that modules of ours import from this module, each with its own module and name.
_FUNCTIONS = {
    "enter_task": ("asyncio.tasks", "_enter_task"),
    "leave_task": ("asyncio.tasks", "_leave_task"),
    "set_running_loop": ("asyncio.events", "_set_running_loop"),
    "register_atexit": ("threading", "_register_atexit"),
    "worker": ("concurrent.futures.thread", "_worker"),
    "PyTask": ("asyncio.tasks", "_PyTask"),
    "py_current_task": ("asyncio.tasks", "_py_current_task"),
}

if TYPE_CHECKING:
    import asyncio
    from asyncio import Future as Future
    from asyncio import Task as Task

    enter_task: Any
    leave_task: Any
    set_running_loop: Any
    register_atexit: Any
    worker: Any
    PyTask: Any
    py_current_task: Any

    def get_running_loop() -> asyncio.AbstractEventLoop | None:
        """Return the running loop of this thread, or None."""


def __getattr__(name: str) -> Any:
    if name == "get_running_loop":
        return _get_running_loop()
    if name in ("Future", "Task"):
        return _in_c(name)
    try:
        module, private = _FUNCTIONS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(module), private, None)


def _get_running_loop() -> Any:
    """Return a function that returns the running loop of this thread, or None.

    It is the private function in C; if that is gone, a wrapper of the public one.
    """
    asyncio: Any = importlib.import_module("asyncio")
    try:
        return asyncio._get_running_loop
    except AttributeError:
        get_running_loop = asyncio.get_running_loop

        def running_or_none() -> Any:
            try:
                return get_running_loop()
            except RuntimeError:
                return None

        return running_or_none


def _in_c(name: str) -> Any:
    """Return the class Future or Task that asyncio has as it is imported: that in C, where there is one.

    nest_asyncio puts the classes in Python in their places in ``asyncio``, for tasks that are made from then on.
    """
    try:
        return getattr(importlib.import_module("_asyncio"), name)
    except (ImportError, AttributeError):
        return getattr(importlib.import_module("asyncio"), name)


def signal_functions() -> Any:
    """Return the C module ``_signal``; the public ``signal`` if ``_signal`` or a function of it is gone."""
    try:
        functions = importlib.import_module("_signal")
    except ImportError:
        functions = importlib.import_module("signal")
    has_both = hasattr(functions, "signal") and hasattr(functions, "getsignal")
    return functions if has_both else importlib.import_module("signal")


def idle_workers() -> Any:
    """Return the queues of executors' worker threads, by thread. Python joins these threads at its exit.

    The mapping is empty if the private name is gone, or if the program has no executors. The module is not imported
    for them: Python refuses that once its exit has begun.
    """
    return getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})


def _callbacks_of(future: Any) -> list[Any]:
    return list(getattr(future, "_done_callbacks", ()))


def works_for_a_loop(thread: Any, frame: Any) -> bool:
    """Return whether an executor's thread, which runs the frame, does work for an asyncio loop of whatever class.

    The default executor of asyncio's loop names its threads. The Future of any other work has a callback of asyncio's,
    by which the loop gets the outcome; a piece of work that was given to the thread just now may not have it yet.

    A thread that asgiref has for thread-sensitive work, such as Django's sync views under ASGI, counts as a plain one:
    its code is written for WSGI as well, and expects nothing of the server's loop.
    """
    if thread.name.startswith("asyncio_"):
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "asgiref.sync":
            return False
        if frame.f_globals.get("__name__") == "concurrent.futures.thread":
            future = getattr(frame.f_locals.get("self"), "future", None)  # in one of its frames
            if any(getattr(each, "__module__", None) == "asyncio.futures" for each in _callbacks_of(future)):
                return True
        frame = frame.f_back
    return False
