"""Cycles of threads that wait for each other, found as the call that closes one is made.

What is certain is little, and only that is refused; :func:`bridge.dump` and the watchdog show the rest.

- A loop's thread that waits in a call *stands still*, if it does so without a limit, and in a way of waiting in which
  nothing else of the thread can go on. A call that can end only by that thread's loop does not end before it.
- A worker thread of a loop's executor that blocks on the very task that awaits the worker.

A thread that is interrupted (Ctrl-C, a bridge that somebody closes) would go on all the same, but without a result.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from .._errors import DeadlockError
from .._loop import worker_threads
from .._loop.task import is_task
from .._private.abilities import lost
from .._private.rows import DEADLOCKS
from .._runs.run import Run
from .._threads.condition import new_lock
from .._values.kinds import describe
from .._watch.watchdog import watchdog

# Of two threads that close one cycle at the same time, one is refused, and the other one's call can end.
_lock = new_lock()


def after_fork() -> None:
    """Make a new lock in a forked child: a thread of the parent's may have held it."""
    global _lock
    _lock = new_lock()


def check(call: Any) -> None:
    """Refuse a call that waits without a limit for a loop whose thread stands still until this thread goes on.

    Called in the thread that is about to wait, which runs a loop, and when the call is among the open ones.

    :raises DeadlockError: that is so; the call is taken back.
    """
    here = threading.get_ident()
    with _lock:
        chain = _chain(call, here)
        # Each was open when it was looked at. If all still are, there was a moment at which all of them were.
        if not chain or any(each not in each.run.open for each in chain):
            return
        call.run.open.discard(call)
    first, *rest = chain
    steps = [f"the thread of {first.run.name} stands still in block_on({describe(rest[0].x)})"]
    for each, later in zip(rest, [*rest[1:], None], strict=True):
        what = "this very thread" if later is None else f"its thread in block_on({describe(later.x)})"
        steps.append(f"which needs the loop of {each.run.name}, and that needs {what}")
    raise DeadlockError(
        f"block_on({describe(call.x)}) would never end: it needs the loop of {call.run.name}, but {', '.join(steps)}. "
        "Do not block a loop's own thread on another bridge: write 'await asyncio.wrap_future(other.submit(...))', or "
        "call the blocking code in a worker thread: await in_thread(function)"
    )


def _chain(call: Any, here: int) -> list[Any]:
    """Return the calls from this one to the one that needs this thread; nothing if the chain ends elsewhere."""
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
    return not hasattr(call, "limit") and bool(getattr(waiter, "sleeps", False))


def _needs_its_loop(call: Any) -> bool:
    """Return whether nothing can end the call but the loop of its run, which runs in that loop's thread."""
    if call.route != call.run.post:
        return False
    work = call.work
    return work is None or (isinstance(work, asyncio.Future) and work.get_loop() is call.run.loop)


def _thread_of(run: Run) -> int | None:
    ident: int | None = run.ident or getattr(run.loop, "_thread_id", None)
    return ident


def check_worker(task: Any) -> None:
    """Refuse a worker thread that blocks on the task that awaits the work it does.

    :raises DeadlockError: that is so.
    """
    job = worker_threads.job_of_this_thread()
    if job is None or not is_task(task) or lost(DEADLOCKS):
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
