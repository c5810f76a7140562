"""Tests and fixtures that have to be waited for: coroutine functions, async generators, and what returns Deferreds.

A sync function is called in the main thread, where no loop runs, so it may call ``asyncio.run()`` as ever. If it
returns a Deferred, that is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from ..._api.default import block_on, enter
from ..._errors import at
from ..._values.deferreds import is_deferred_type

_OURS = "is_of_bridge"  # an attribute of the functions that this module makes


def is_deferred(x: object) -> bool:
    """Return whether x is a Deferred."""
    return is_deferred_type(type(x))


def waiting_test(function: Callable[..., Any], in_worker: bool) -> Callable[..., Any]:
    """Return a sync function for a test's: it waits for what the test is, or returns.

    :param in_worker: call a sync test in a worker thread, while the loop runs.
    """
    if getattr(function, _OURS, False):
        return function
    is_async = inspect.iscoroutinefunction(function)

    @functools.wraps(function)
    def test(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if is_async:
            block_on(function(*args, **kwargs))
            return None
        call = functools.partial(function, *args, **kwargs)
        result: Any = block_on(asyncio.to_thread(call)) if in_worker else call()
        if inspect.isawaitable(result) or is_deferred(result):
            block_on(result)
            return None
        return result

    setattr(test, _OURS, True)
    return test


def waiting_fixture(function: Callable[..., Any], request: Any, check: Callable[[], object]) -> Callable[..., Any]:
    """Return a sync function for a fixture's.

    :param request: of the test, or wider scope, for which the fixture is set up.
    :param check: called before the fixture waits.
    """

    def waited(value: Any) -> Any:
        __tracebackhide__ = True
        if is_deferred(value):
            check()
            return block_on(value)
        return value

    def coroutine(**kwargs: Any) -> Any:
        __tracebackhide__ = True
        check()
        return block_on(_bound(function, request)(**kwargs))

    def async_generator(**kwargs: Any) -> Any:
        # In one task, and so in one context: a task group or a time-out may be entered here, and left at the end.
        __tracebackhide__ = True
        check()
        entered = enter(_manager(_bound(function, request), kwargs))
        value = entered.__enter__()
        request.addfinalizer(lambda: entered.__exit__(None, None, None))
        return value

    def generator(**kwargs: Any) -> Generator[Any]:
        __tracebackhide__ = True
        for value in _bound(function, request)(**kwargs):
            yield waited(value)

    def plain(**kwargs: Any) -> Any:
        __tracebackhide__ = True
        return waited(_bound(function, request)(**kwargs))

    if inspect.isasyncgenfunction(function):
        chosen: Callable[..., Any] = async_generator
    elif inspect.iscoroutinefunction(function):
        chosen = coroutine
    else:
        chosen = generator if inspect.isgeneratorfunction(function) else plain
    return functools.wraps(function)(chosen)  # so that pytest names the user's function where it fails


def _bound(function: Callable[..., Any], request: Any) -> Callable[..., Any]:
    """Bind a method to the object of the test that runs, as pytest does."""
    instance = request.instance
    if inspect.ismethod(function) and isinstance(instance, type(function.__self__)):
        return function.__func__.__get__(instance)  # type: ignore[no-any-return]
    return function


@contextlib.asynccontextmanager
async def _manager(function: Callable[..., Any], kwargs: dict[str, Any]) -> AsyncGenerator[Any]:
    __tracebackhide__ = True
    generator = function(**kwargs)
    try:
        value = await anext(generator)
    except StopAsyncIteration:
        raise ValueError(f"{function.__name__} did not yield a value") from None
    yield value
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    await generator.aclose()
    pytest.fail(f"fixture {function.__name__!r} yields more than once", pytrace=False)


def check_main_thread() -> None:
    """Refuse tests in another thread, whose loop would be another's.

    :raises pytest.UsageError: this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise pytest.UsageError(
            "bridge runs the loop of the tests in the main thread, and pytest runs in another one"
            + at("loop-of-the-tests")
        )
