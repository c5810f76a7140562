"""The places that a sync caller may stand in, as functions that call a function there; and who serves them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import TypeVar

from bridge import strategies

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


def serves(strategy: str, place: Callable[[Callable[[], str | None]], str | None]) -> bool:
    """Return whether the strategy can be used in that place, in this process as it is now."""
    return place(strategies()[strategy].unavailable) is None


def usable() -> list[str]:
    """Return the strategies that can be used in the main thread of this process as it is now."""
    return sorted(name for name in strategies() if serves(name, in_main_thread))


def shown(x: object) -> str:
    """Return the repr without addresses, which would give a test another name in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(x))
