"""Protocols: what the views need of the bridge that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy


class Caller(Protocol):
    """The bridge of one iteration or one ``with`` block."""

    context_out: bool

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...

    def current_run(self) -> Run:
        """Return the current run of the loop; start one if none runs."""
        ...


class ViewOwner(Protocol):
    """The maker of a view: a bridge, or the plain functions, which look the bridge up for each call."""

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...

    def caller(self) -> Caller:
        """Return the bridge for this thread. An iteration or a ``with`` block makes all its calls on it."""
        ...
