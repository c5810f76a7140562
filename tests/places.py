"""The places that a sync caller may stand in, as functions that call a function there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_main_thread(function: Callable[[], T]) -> T:
    return function()


def in_a_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()  # not errors[0]: the list would be in the frame that the traceback holds
    return results[0]


def in_a_foreign_loop(function: Callable[[], T]) -> T:
    """Call it inside a coroutine of a loop that is not ours, as in Jupyter or a handler of uvicorn's."""

    async def main() -> T:
        return function()

    return asyncio.run(main())


def in_a_thread_with_a_foreign_loop(function: Callable[[], T]) -> T:
    return in_a_thread(lambda: in_a_foreign_loop(function))


PLACES = [in_main_thread, in_a_thread, in_a_foreign_loop, in_a_thread_with_a_foreign_loop]
