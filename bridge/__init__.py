"""Call async code from sync code, whichever async world it comes from.

One asyncio loop runs in a thread of its own, with Twisted's asyncio reactor on it, and :func:`block_on` waits for
coroutines, Deferreds and Futures alike.

The two functions that are not in ``__all__`` are for IPython, which looks for them here: ``%load_ext bridge``.

PYTEST_DONT_REWRITE: pytest would warn, where this is imported before its plugin, that it cannot rewrite the assertions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._api.bridge import Bridge
from ._api.decorators import as_deferred, as_future, deferring, in_caller, in_thread, serialized
from ._api.default import (
    as_completed,
    block_on,
    blocking,
    call,
    configure,
    default_bridge,
    enter,
    install,
    iterate,
    map,
    new_event_loop,
    run,
    submit,
    wait,
)
from ._api.hooks import load_ipython_extension as load_ipython_extension
from ._api.hooks import unload_ipython_extension as unload_ipython_extension
from ._diagnostics.dump import dump
from ._errors import BridgeClosed, BridgeError, DeadlockError, ReactorConflict, StrategyUnavailable, WrongThreadError
from .strategies import register_strategy, strategies
from .strategies.interface import Strategy, Waiter

if TYPE_CHECKING:
    from ._runs.options import Options
    from ._views.enter import Entered
    from ._views.iterate import Items
    from ._watch.stats import Stats

__version__ = "0.2.0"

__all__ = [
    "Bridge",
    "BridgeClosed",
    "BridgeError",
    "DeadlockError",
    "Entered",
    "Items",
    "Options",
    "ReactorConflict",
    "Stats",
    "Strategy",
    "StrategyUnavailable",
    "Waiter",
    "WrongThreadError",
    "__version__",
    "as_completed",
    "as_deferred",
    "as_future",
    "block_on",
    "blocking",
    "call",
    "configure",
    "default_bridge",
    "deferring",
    "dump",
    "enter",
    "in_caller",
    "in_thread",
    "install",
    "iterate",
    "map",
    "new_event_loop",
    "register_strategy",
    "run",
    "serialized",
    "strategies",
    "submit",
    "wait",
]


def __getattr__(name: str) -> Any:
    # The classes of what iterate(), enter(), stats() and options return, for annotations. Most modules import asyncio.
    module = {
        "Entered": "_views.enter",
        "Items": "_views.iterate",
        "Options": "_runs.options",
        "Stats": "_watch.stats",
    }.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f".{module}", __name__), name))


def __dir__() -> list[str]:
    # For completion. An extension is there once it has been imported, as any module of a package.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") or name == "ext")})
