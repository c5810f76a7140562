"""What stands for ``asyncio.Runner`` in pytest-asyncio, the anyio plugin and ``unittest.IsolatedAsyncioTestCase``.

Each of them makes a runner for a test, a class, a module or the session, and closes it. The runner here lends them the
loop of the test that runs. It leaves the loop open when it is closed, with the tasks of others that are on it; tasks
that a test has left are reported with its other leftovers.

Where they ask for a loop of another kind (``loop_factory``), and for tests that do not run with this plugin, they get
asyncio's runner.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

import pytest

from ..._errors import at
from ..._private.abilities import why_lost
from ..._private.rows import TESTS
from ..._values.context import maker
from .loops import CLEAN_UP, Loops, SharedLoop

_ANYIO = "anyio._backends._asyncio"
_PYTEST_ASYNCIO = "pytest_asyncio.plugin"
# The task in which anyio's plugin runs its tests and fixtures. It lasts until anyio closes its runner.
_ANYIOS_TASK = "TestRunner._run_tests_and_fixtures"


class SharedRunner:
    """An ``asyncio.Runner`` on the loop of the test that runs."""

    def __init__(self, loops: Loops, debug: bool | None) -> None:
        self._loops = loops
        self._debug = debug
        self._shared: SharedLoop | None = None
        self._context: contextvars.Context | None = None
        self._before: tuple[bool, Any] = (False, None)

    def __enter__(self) -> SharedRunner:
        self.get_loop()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._borrowed().loop

    def run(self, coro: Any, *, context: contextvars.Context | None = None) -> Any:
        """Run a coroutine on the loop."""
        shared = self._borrowed()
        if context is None:
            context = self._context
            assert context is not None
            context.run(maker.set, maker.get())  # who runs now, and not who runs first
        return shared.run(coro, context)

    def close(self) -> None:
        """Give the loop back. It stays open."""
        shared, self._shared = self._shared, None
        if shared is None or shared.is_over:
            return
        ending = [task for task in asyncio.all_tasks(shared.loop) if is_of_anyio(task)]
        for task in ending:
            task.cancel()
        shared.run_until(lambda: all(task.done() for task in ending), CLEAN_UP)
        debug, handler = self._before
        shared.loop.set_debug(debug)
        shared.loop.set_exception_handler(handler)

    def _borrowed(self) -> SharedLoop:
        shared = self._shared
        if shared is None or shared.is_over:
            shared = self._loops.current
            if shared is None:
                raise RuntimeError(
                    "a runner on the loop of the tests is used between two tests" + at("loop-of-the-tests")
                )
            self._shared = shared
            self._context = contextvars.copy_context()
            self._before = shared.loop.get_debug(), shared.loop.get_exception_handler()
            if self._debug is not None:
                shared.loop.set_debug(self._debug)
            asyncio.set_event_loop(shared.loop)
        return shared


def is_of_anyio(task: asyncio.Task[Any]) -> bool:
    """Return whether this is the task in which anyio's plugin runs its tests."""
    return getattr(task.get_coro(), "__qualname__", None) == _ANYIOS_TASK


def _refusal(module: ModuleType) -> str:
    if module.__name__ == _ANYIO:
        return f"the anyio plugin cannot share a loop with bridge: {why_lost(TESTS)}"
    return "this version of pytest-asyncio cannot share a loop with bridge: install 1.1 or newer"


class Runners:
    """Puts the runner in place, and takes it out again."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        self._undo: list[Callable[[], object]] = []

    def _make(self, *, debug: bool | None = None, loop_factory: Any = None) -> Any:
        if loop_factory is None and self._loops.current is not None:
            return SharedRunner(self._loops, debug)
        return asyncio.Runner(debug=debug, loop_factory=loop_factory)

    def put_in_place(self, item: pytest.Item) -> None:
        """Put the runner into the plugins that are loaded, before a test that may use them.

        :raises pytest.UsageError: a plugin has no place for it.
        """
        if "anyio_backend" in getattr(item, "fixturenames", ()):
            importlib.import_module(_ANYIO)  # which anyio itself may import as late as in the test
        for name in (_PYTEST_ASYNCIO, _ANYIO):
            module = sys.modules.get(name)
            if module is not None:
                self._put(module)

    def _put(self, module: Any) -> None:
        found = getattr(module, "Runner", None)
        if found == self._make:
            return
        if found is not asyncio.Runner and not isinstance(getattr(found, "__self__", None), Runners):
            raise pytest.UsageError(f"{_refusal(module)}, or run pytest with -o bridge=false" + at("pytest-plugins"))
        module.Runner = self._make
        self._undo.append(lambda: setattr(module, "Runner", found))

    def take_away(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def for_unittest(self) -> Generator[None]:
        """Give the runner to an ``IsolatedAsyncioTestCase``, which makes one by ``asyncio.Runner`` as it begins."""
        plain = asyncio.Runner

        def make(**options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return plain(**options)
            asyncio.Runner = plain  # type: ignore[misc]  # what the test itself makes is its own
            return self._make(**options)

        asyncio.Runner = make  # type: ignore[misc, assignment]
        try:
            yield
        finally:
            asyncio.Runner = plain  # type: ignore[misc]
