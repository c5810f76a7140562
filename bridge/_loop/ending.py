"""The end of a loop's tasks, whoever runs the loop: a bridge, the program, a reactor, or a reactor without a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


def end_tasks(
    loop: Any, deadline: float, tasks_of: Callable[[Any], set[Any]] = asyncio.all_tasks
) -> asyncio.Future[list[Any]]:
    """Cancel every task of the loop, and those that their cleanup starts; the calling task is not cancelled.

    An error of a cleanup goes to the loop's exception handler. Called on the loop's thread. Of the loop this needs
    timers, and what a task needs for its steps: a reactor's stand-in for a loop will do, which is never the running
    loop. So this is no coroutine, and it does not use ``asyncio.wait``.

    :param deadline: in seconds of ``loop.time()``.
    :param tasks_of: returns the tasks of a loop that have not ended.
    :returns: a Future of the tasks that have not ended by the deadline.
    """
    caller = asyncio.current_task(loop)
    ended: asyncio.Future[list[Any]] = loop.create_future()
    tasks: set[asyncio.Task[Any]] = set()  # the loop itself refers to its tasks weakly

    def cancel_all() -> None:
        tasks.update(tasks_of(loop) - {caller})
        if not tasks:
            limit.cancel()
            ended.set_result([])
        for task in list(tasks):
            task.add_done_callback(one_ended)
            task.cancel()

    def one_ended(task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception while the loop was shutting down",
                    "exception": task.exception(),
                    "task": task,
                }
            )
        if not tasks and not ended.done():
            cancel_all()

    def out_of_time() -> None:
        if not ended.done():
            ended.set_result([task for task in tasks if not task.done()])

    limit = loop.call_later(max(0.0, deadline - loop.time()), out_of_time)
    cancel_all()
    return ended


def run_to_end(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]]) -> T:
    """Run a loop that has stopped until some work has ended. If ``loop.stop()`` is called meanwhile, begin it anew."""
    while True:
        try:
            return loop.run_until_complete(work())
        except RuntimeError as error:
            if not is_stopped_early(error):
                raise


def is_stopped_early(error: BaseException) -> bool:
    """Return whether the error was raised because ``loop.stop()`` was called during ``run_until_complete``."""
    return type(error) is RuntimeError and error.args == ("Event loop stopped before Future completed.",)
