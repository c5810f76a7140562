"""Cycles of threads that wait for each other, found as the call that closes one is made.

Only calls that certainly never end are refused, and few are certain. :func:`bridge.dump` and the watchdog show the
rest. Refused are:

- The call that closes a cycle of loops whose threads *stand still*. A loop's thread does so in a call without a limit,
  with a waiter that lets nothing else of the thread go on. A call that only its loop can end does not end before that.
- A call of a worker thread of a loop's executor that blocks on the very task that awaits the worker.

An interrupt (Ctrl-C, closing the bridge) would still end such a wait, but without a result.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from .._errors import DeadlockError, at
from .._loop import worker_threads
from .._loop.task import is_task
from .._private.abilities import lost
from .._private.rows import DEADLOCKS
from .._runs.run import Run
from .._threads.native import new_lock
from .._values.kinds import describe
from .._watch.watchdog import watchdog
from .calling import Calling
from .state import WITHDRAW, move

# Of two threads that close one cycle at the same time, one is refused, and the other one's call can end.
_lock = new_lock()


def after_fork() -> None:
    """Make a new lock in a forked child: a thread of the parent's may have held it."""
    global _lock
    _lock = new_lock()


def check(call: Any) -> None:
    """Refuse a call that waits without a limit for a loop whose thread stands still until this thread goes on.

    Called in the thread that is about to wait, which runs a loop, after the call was added to the open ones.

    :raises DeadlockError: the call would never end; it is not open any more.
    """
    here = threading.get_ident()
    with _lock:
        chain = _chain(call, here)
        # Each call was open when it was read. If all still are, there was a moment at which all were open at once.
        if not chain or any(each not in each.run.open for each in chain):
            return
        move(call, WITHDRAW)
    first, *rest = chain
    steps = [f"the thread of {first.run.name} stands still in block_on({describe(rest[0].x)})"]
    for each, later in zip(rest, [*rest[1:], None], strict=True):
        what = "this very thread" if later is None else f"its thread in block_on({describe(later.x)})"
        steps.append(f"which needs the loop of {each.run.name}, and that needs {what}")
    raise DeadlockError(
        f"block_on({describe(call.x)}) would never end: it needs the loop of {call.run.name}, but {', '.join(steps)}. "
        "Do not block a loop's own thread on another bridge: write 'await asyncio.wrap_future(other.submit(...))', or "
        "call the blocking code in a worker thread: await in_thread(function)" + at("circle-of-bridges")
    )


def _chain(call: Any, here: int) -> list[Any]:
    """Return the chain of calls from this one to a call that needs this thread; empty if it ends elsewhere."""
    standing: dict[int, Any] = {}
    runs = [target for target in watchdog.targets if isinstance(target, Run)]
    every: list[Any] = [each for run in runs for each in run.calls()]
    for each in sorted(every, key=lambda each: each.started):  # the innermost of a thread's calls comes last
        standing[each.caller] = each
    chain: list[Any] = []
    while call is not None and call not in chain and _stands_still(call) and _needs_its_loop(call):
        chain.append(call)
        thread = _thread_of(call.run)
        if thread == here:
            return chain if len(chain) > 1 else []
        call = standing.get(thread or 0)
    return []


def _stands_still(call: Any) -> bool:
    waiter = getattr(call.waiter, "inner", call.waiter)
    return not hasattr(call, "limit") and bool(getattr(waiter, "sleeps", True))


def _needs_its_loop(call: Any) -> bool:
    """Return whether only the loop of its run can end the call."""
    if call.route != call.run.post:
        return False
    work = call.work
    if work is None or isinstance(work, Calling):
        return True
    return asyncio.isfuture(work) and work.get_loop() is call.run.loop


def _thread_of(run: Run) -> int | None:
    ident: int | None = run.ident or getattr(run.loop, "_thread_id", None)
    return ident


def check_worker(task: Any, job: worker_threads.Job) -> None:
    """Refuse a worker thread that blocks on the task that awaits the work it does.

    :param job: that work.
    :raises DeadlockError: the worker and the task wait for each other.
    """
    if not is_task(task) or lost(DEADLOCKS):
        return
    tasks: list[Any] = []
    each: Any = task
    while is_task(each) and each not in tasks:
        tasks.append(each)
        each = getattr(each, "_fut_waiter", None)
    future = job.future
    if future is None or each is not future or future.done():  # the task goes on, or has been cancelled just now
        return
    if not _may_be_cancelled_by_time(task.get_loop(), tasks):
        raise DeadlockError(
            f"block_on({describe(task)}) was called in the worker thread that this very task waits for; neither can "
            "have its result before the other one. Return from the thread, and let the task go on"
            + at("worker-and-its-task")
        )


def _may_be_cancelled_by_time(loop: asyncio.AbstractEventLoop, tasks: list[Any]) -> bool:
    """Return whether a timer of the loop may cancel one of the tasks: asyncio.timeout, anyio's scopes, call_later."""
    for timer in [*getattr(loop, "_scheduled", ()), *getattr(loop, "_ready", ())]:  # it may be due just now
        owner = getattr(timer._callback, "__self__", None)
        if timer._cancelled or owner is None:
            continue
        if any(owner is task or getattr(owner, "_task", None) is task for task in tasks):
            return True
        if type(owner).__name__ == "CancelScope":
            return True
    return False
