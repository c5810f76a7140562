"""A sync test that has waited in vain for a server on the loop of the tests, which stood still all the while."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..._errors import at


@contextmanager
def hinted(loop: Any, are_ports_open: Callable[[], bool]) -> Generator[None]:
    """Add a note to the error of a time-out if something listens on the loop and the loop has not run here."""
    has_run: list[bool] = []
    handle = loop.call_soon(has_run.append, True)
    try:
        yield
    except BaseException as error:
        if not has_run and _is_of_time(error) and are_ports_open():
            error.add_note(
                "The loop of the tests stood still during this test, so no server on it could answer. For a client "
                "that blocks, mark the test: @pytest.mark.bridge(in_thread=True)" + at("loop-stood-still")
            )
        raise
    finally:
        handle.cancel()


def _is_of_time(error: BaseException | None) -> bool:
    """Return whether this is the error of a time limit, of whatever library, or has come from one."""
    while error is not None:
        said = f"{type(error).__name__} {error}".lower()
        if isinstance(error, TimeoutError) or "timeout" in said or "timed out" in said:
            return True
        error = error.__cause__ or error.__context__
    return False
