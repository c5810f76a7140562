"""Kinds of objects that a caller may block on, and the errors for all other objects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import enum
import functools
import inspect
from types import CoroutineType, FunctionType, MethodType
from typing import Any, cast

from .._errors import BridgeError, at
from .deferreds import is_deferred_type


class Kind(enum.Enum):
    """The way in which an object is waited for."""

    COROUTINE = "coroutine"  # becomes a task on the loop
    AWAITABLE = "awaitable"  # has __await__: a coroutine of ours awaits it
    DEFERRED = "Deferred"
    FUTURE = "asyncio Future"  # bound to a loop, which may not be ours
    CONCURRENT = "concurrent.futures.Future"
    CALLABLE = "callable"  # called on the loop's thread; its result then has a kind of its own

    __hash__ = object.__hash__  # Enum's is written in Python; each call looks a kind up twice


def kind_of(x: Any) -> Kind:
    """Return the kind of x.

    :raises TypeError: x cannot be blocked on; the message says what was passed and what to pass instead.
    :raises BridgeError: x is a coroutine that has been awaited already, or is being awaited.
    """
    cls: type[object] = x.__class__
    if cls is CoroutineType:
        if x.cr_frame is None or x.cr_suspended or x.cr_running:
            raise _already_awaited(x)
        return Kind.COROUTINE
    kind = _awaitable_kind(x)
    if kind is not None:
        return kind
    if callable(x):
        _check_needs_no_arguments(x)
        return Kind.CALLABLE
    raise _wrong_type(x)


def returned_kind(value: Any) -> Kind | None:
    """Return the kind of a callable's result; None for a plain value.

    :raises BridgeError: as :func:`kind_of`.
    """
    cls: type[object] = value.__class__
    if cls is CoroutineType:
        return kind_of(value)
    return _awaitable_kind(value)


def discard(x: object) -> None:
    """Close x if it is an unstarted coroutine, so that Python does not warn that it was never awaited."""
    if inspect.iscoroutine(x) and inspect.getcoroutinestate(x) == inspect.CORO_CREATED:
        # Another thread may start it at this moment: then leave it alone.
        with contextlib.suppress(ValueError):
            x.close()


def describe(x: object) -> str:
    """Return a short name of x for a message: a function's or coroutine's qualified name, else the repr.

    A ``functools.partial`` is named by its function. The repr of its arguments may be long, or different each time.
    """
    if isinstance(x, functools.partial):
        return f"partial of {describe(x.func)}"
    name = getattr(x, "__qualname__", None)
    if isinstance(name, str):
        return f"{type(x).__name__} {name}"
    text = repr(x)
    return text if len(text) <= 80 else f"{text[:77]}..."


def describe_pending(x: object) -> str:
    """Return a short name of x as it was while it was waited for. It may have been cancelled since, and says so."""
    kind = _awaitable_kind(x)
    if isinstance(x, asyncio.Task):
        return describe(cast(Any, x).get_coro())
    if kind in (Kind.DEFERRED, Kind.FUTURE, Kind.CONCURRENT):
        return f"<{type(x).__name__} at {id(x):#x}>"
    return describe(x)


def _items_in(x: Any) -> list[Any]:
    """Return the items of a list, tuple or set, and the values of a dict; else an empty list."""
    if isinstance(x, dict):
        return [*x.values()]
    return [*cast("list[Any]", x)] if isinstance(x, list | tuple | set) else []


def _awaitable_kind(x: object) -> Kind | None:
    cls = type(x)
    if is_deferred_type(cls):
        return Kind.DEFERRED
    if asyncio.isfuture(x):
        return Kind.FUTURE
    if isinstance(x, concurrent.futures.Future):
        return Kind.CONCURRENT
    if inspect.iscoroutine(x):
        return Kind.COROUTINE
    if inspect.isawaitable(x):
        return Kind.AWAITABLE
    return None


def _check_needs_no_arguments(function: Any) -> None:
    """Raise TypeError if the callable cannot be called without arguments."""
    if _has_no_required_arguments(function):
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some builtins have no signature: the call itself will raise
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(function, "__name__", None) or repr(function)
        raise TypeError(
            f"{describe(function)} cannot be called without arguments ({error}); pass the arguments where it is "
            f"called: block_on(lambda: {name}(...))" + at("cannot-block-on")
        ) from None


def _has_no_required_arguments(function: Any) -> bool:
    """Return whether a Python function or method has no required arguments. Ten times as fast as a signature."""
    bound = 0
    if type(function) is MethodType:
        function, bound = function.__func__, 1
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    return not code.co_kwonlyargcount and code.co_argcount <= len(function.__defaults__ or ()) + bound


def _already_awaited(coroutine: CoroutineType[Any, Any, Any]) -> BridgeError:
    name = coroutine.__qualname__
    if coroutine.cr_frame is None:
        state = "has already been awaited"
    elif coroutine.cr_running:
        state = "is running"
    else:
        state = "is being awaited by someone else"
    return BridgeError(
        f"coroutine {name} {state}, and a coroutine can be awaited once only; call the function again: "
        f"block_on({name}(...))" + at("awaited-before")
    )


def _wrong_type(x: object) -> TypeError:
    wanted = (
        "block_on takes a coroutine, an awaitable, a Deferred, a Future, or a callable without arguments that "
        "returns one of these"
    )
    if inspect.isasyncgen(x):
        return TypeError(
            f"cannot block on the async generator {x.__qualname__}: it gives many values, not one; write "
            f"'async for' inside a coroutine and block on that. {wanted}" + at("cannot-block-on")
        )
    items = _items_in(x)
    kinds = [returned_kind(each) for each in items]
    for each in items:
        discard(each)
    if items and all(kinds):
        return TypeError(
            f"cannot block on a {type(x).__name__} of awaitables; write block_on(lambda: asyncio.gather(*awaitables)) "
            f"for a list of their results. {wanted}" + at("cannot-block-on")
        )
    if hasattr(x, "__aenter__"):
        return TypeError(
            f"cannot block on {describe(x)}: it is an async context manager; write 'async with' inside a coroutine "
            f"and block on that. {wanted}" + at("cannot-block-on")
        )
    if inspect.isgenerator(x):
        return TypeError(
            f"cannot block on the generator {x.__qualname__}: decorate its function with inlineCallbacks, or write "
            f"it as 'async def'. {wanted}" + at("cannot-block-on")
        )
    return TypeError(f"cannot block on {describe(x)}, of type {type(x).__name__}: {wanted}" + at("cannot-block-on"))
