"""The hooks of the plugin, once it is wanted."""

from __future__ import annotations

import unittest
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from ..._errors import BridgeClosed, at
from ..._private.cpython import get_running_loop
from .calls import check_main_thread, waiting_fixture, waiting_test
from .leftovers import Leftovers, told
from .loops import SCOPES, Loops, SharedLoop
from .runners import Runners
from .standstill import hinted
from .trial import is_trial, on_loop
from .unseen import UnseenErrors

_MARK = "bridge"
_ACTIONS = ("error", "ignore")
# What the mark takes.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "loop_scope": (None, *SCOPES),
    "in_thread": (False, True),
    "leftovers": (None, *_ACTIONS),
    "unseen": (None, *_ACTIONS),
}


class Plugin:
    """Runs the tests that are marked, or all, on loops of ours."""

    def __init__(self, config: pytest.Config) -> None:
        check_main_thread()
        _check_alone(config)
        self._for_all = bool(config.getini("bridge"))
        self._scope = _one_of(SCOPES, config.getini("bridge_loop_scope"), "bridge_loop_scope")
        self._leftovers_are = _one_of(_ACTIONS, config.getini("bridge_leftovers"), "bridge_leftovers")
        self._unseen_are = _one_of(_ACTIONS, config.getini("bridge_unseen"), "bridge_unseen")
        self._loops = Loops()
        self._runners = Runners(self._loops)
        self._leftovers = Leftovers(self._loops.open)
        self._unseen = UnseenErrors()
        self._item: pytest.Item | None = None  # the test that runs, if it is one of ours
        self._has_failed = False
        self._functions: list[tuple[Any, str, Any]] = []  # of the test that runs: what was replaced

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Check the marks before any test runs."""
        for item in items:
            for mark in item.iter_markers(_MARK):
                _check_mark(mark, item.nodeid)

    # One test. The wrappers that come last begin when those of other plugins have begun, and end before they end.

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Make the loop current, before any fixture is set up."""
        __tracebackhide__ = True
        if self._serves(item):
            self._runners.put_in_place(item)
            conflict = self._loops.begin(item, self._scope_of(item))
            if conflict is not None:
                pytest.exit(conflict, pytest.ExitCode.USAGE_ERROR)
            self._item = item
            self._leftovers.begin()
            if self._loops.current is not None:
                self._unseen.begin(self._loops.current, self._leftovers.test, after_failure=self._has_failed)
            self._has_failed = False
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Have the test cases of unittest and of trial run on the loop."""
        __tracebackhide__ = True
        if item is not self._item:
            return (yield)
        self._leftovers.go_on()
        try:
            with self._around(item):
                return (yield)
        except BaseException:
            self._has_failed = True
            raise
        finally:
            self._restore()

    def _around(self, item: pytest.Item) -> AbstractContextManager[None]:
        cls = getattr(item, "cls", None)
        if isinstance(cls, type) and issubclass(cls, unittest.IsolatedAsyncioTestCase):
            return self._runners.for_unittest()
        current = self._loops.current
        if current is None or current.is_over:
            return nullcontext()
        if is_trial(item):
            return on_loop(current, getattr(item, "instance", None), self._leftovers)
        return hinted(current.loop, self._leftovers.are_ports_open)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
        """Look for leftovers once everything has been torn down, and close the loops that no other test needs."""
        __tracebackhide__ = True
        if item is not self._item:
            try:
                return (yield)
            finally:
                self._loops.end(nextitem)
        self._leftovers.go_on()
        try:
            result = yield
            self._check(item)
            return result
        finally:
            self._leftovers.end()
            self._item = None
            self._loops.leave()
            self._loops.end(nextitem)

    def _check(self, item: pytest.Item) -> None:
        current = self._loops.current
        if current is None:
            return
        was_over = current.is_over  # then the test has failed for it
        found = {"leftovers": self._left(item, current), "unseen errors": self._seen_by_nobody(item)}
        if current.is_over and not was_over:
            pytest.fail(f"{item.name} has stopped the loop or the reactor of the tests", pytrace=False)
        found = {name: text for name, text in found.items() if text}
        if self._has_failed:
            for name, text in found.items():
                item.add_report_section("teardown", name, text)
        elif found:
            pytest.fail("\n".join(found.values()), pytrace=False)

    def _left(self, item: pytest.Item, current: SharedLoop) -> str:
        if current.is_over or self._leftovers_are == "ignore":
            return ""
        wanted = self._setting(item, "leftovers", "error") != "ignore"
        try:
            return told(item.name, self._leftovers.left(current, by_test=wanted))
        except BridgeClosed:
            return ""

    def _seen_by_nobody(self, item: pytest.Item) -> str:
        is_wanted = self._setting(item, "unseen", self._unseen_are) != "ignore"
        return self._unseen.take(item.name) if is_wanted and not is_trial(item) else ""

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None]:
        """Close the loops that are open, if the session has ended early, once all fixtures have been torn down."""
        for each in self._loops.open():
            each.take()
        try:
            return (yield)
        finally:
            self._loops.leave()
            self._loops.end(None)

    def pytest_unconfigure(self) -> None:
        """Leave nothing in other plugins."""
        self._loops.end(None)
        self._runners.take_away()
        self._leftovers.unload()
        self._unseen.unload()

    # Its function and its fixtures.

    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        """Have pytest call a sync function that waits. Plugins that run the test themselves come first."""
        if pyfuncitem is not self._item:
            return
        in_worker = bool(self._setting(pyfuncitem, "in_thread", False))
        hypothesis: Any = getattr(pyfuncitem.obj, "hypothesis", None)
        where, name = (pyfuncitem, "obj") if hypothesis is None else (hypothesis, "inner_test")
        function = getattr(where, name)
        self._functions.append((where, name, function))
        setattr(where, name, waiting_test(function, in_worker))

    def _restore(self) -> None:
        while self._functions:
            where, name, function = self._functions.pop()
            setattr(where, name, function)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
        """Have pytest call a sync function that waits, unless another plugin has put one here."""
        __tracebackhide__ = True
        if self._item is None:
            return (yield)
        before = fixturedef.func
        fixturedef.func = waiting_fixture(before, request, lambda: self._check_scope(fixturedef))
        try:
            if fixturedef.scope == "function":
                return (yield)
            with self._leftovers.setting_up(fixturedef):
                return (yield)
        finally:
            fixturedef.func = before

    def _check_scope(self, fixturedef: Any) -> None:
        """Refuse a fixture that would be kept for longer than its loop."""
        current = self._loops.current
        # "package" lies between the first two of SCOPES.
        wider = {"session": 0, "package": 0, "module": 1, "class": 2, "function": 3}
        if current is not None and wider[fixturedef.scope] < SCOPES.index(current.scope):
            pytest.fail(
                f"the fixture {fixturedef.argname!r} has the scope {fixturedef.scope!r}, and its loop ends before: its "
                f"scope is {current.scope!r}. Write bridge_loop_scope = {fixturedef.scope} in the ini file, or "
                "give the fixture a narrower scope",
                pytrace=False,
            )

    # Settings.

    def _serves(self, item: pytest.Item) -> bool:
        return self._for_all or item.get_closest_marker(_MARK) is not None

    def _setting(self, item: pytest.Item, name: str, default: Any) -> Any:
        for mark in item.iter_markers(_MARK):
            if mark.kwargs.get(name) is not None:
                return mark.kwargs[name]
        return default

    def _scope_of(self, item: pytest.Item) -> str:
        return str(self._setting(item, "loop_scope", self._scope))


def _one_of(values: tuple[Any, ...], given: Any, name: str) -> str:
    if given not in values:
        raise pytest.UsageError(
            f"{name} is one of {', '.join(map(str, values))}, not {given!r}" + at("pytest-settings")
        )
    return str(given)


def _check_mark(mark: pytest.Mark, where: str) -> None:
    wrong = [repr(each) for each in mark.args] + [name for name in mark.kwargs if name not in _ARGUMENTS]
    if wrong:
        raise pytest.UsageError(
            f"{where}: mark.bridge takes {', '.join(_ARGUMENTS)} by name, not {', '.join(wrong)}"
            + at("pytest-settings")
        )
    for name, value in mark.kwargs.items():
        _one_of(_ARGUMENTS[name], value, f"{where}: {name}")


def _check_alone(config: pytest.Config) -> None:
    """Refuse to run beside what runs a loop or a reactor in this thread itself.

    :raises pytest.UsageError: there is such a thing.
    """
    if config.pluginmanager.has_plugin("pytest_twisted") or config.pluginmanager.has_plugin("twisted"):
        raise pytest.UsageError(
            "pytest-twisted runs the reactor of this session, and so does bridge: run pytest with -p no:twisted (tests "
            "and fixtures that return Deferreds work without it), or with -o bridge=false" + at("pytest-plugins")
        )
    if get_running_loop() is not None:
        raise pytest.UsageError(
            "a loop runs in this thread already, so bridge can run none for the tests: start pytest in a process of "
            "its own, or with -o bridge=false" + at("loop-of-the-tests")
        )
