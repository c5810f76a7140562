"""Errors of trio's functions where asyncio runs: a note says why they cannot work there."""

from __future__ import annotations

# Parts of what asyncio and trio say of a coroutine that needs trio. trio itself reads attributes that it lacks then.
_SAID = (
    "Task got bad yield: <class 'trio.",
    "must be called from async context",
    "'RunContext' object has no attribute",
)
_NOTE = (
    "This awaits a function of trio's, and a bridge runs an asyncio loop, where only asyncio, anyio and Twisted work: "
    "run it by trio.run(function), in a program on trio by trio.from_thread.run(function), or write the coroutine with "
    "anyio's functions, which work on both."
)


def explain(error: BaseException) -> None:
    """Add a note to the error, once, if it says that a coroutine needs trio. Called where trio is loaded."""
    if isinstance(error, RuntimeError | AttributeError):
        said = str(error)
        if any(part in said for part in _SAID) and _NOTE not in getattr(error, "__notes__", ()):
            error.add_note(_NOTE)
