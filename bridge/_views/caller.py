"""What the views, which are clients of the calls, need of the bridge that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy


class Caller(Protocol):
    """What iterations and ``with`` blocks need of a bridge."""

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...

    def current_run(self) -> Run:
        """Return the loop thread that runs; start one if none does."""
        ...


class ViewOwner(Protocol):
    """What has made a view: a bridge, or the plain functions, which find the bridge anew for each call."""

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...

    def caller(self) -> Caller:
        """Return the bridge that serves this thread, for several calls that belong together."""
        ...
