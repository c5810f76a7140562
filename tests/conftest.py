"""Fixtures that several test modules share, what happens when a test runs out of time, and the rule of the marks."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from guis import make_gui, unseen_screen
from sockets import socket_folder
from twisted.logger import LogEvent, globalLogPublisher

from bridge import Bridge, default_bridge

# What was started in the background of a shell ignores Ctrl-C, and so would the processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What test_gui_conformance.py sets for a process of pytest's that is to have an application object.
_TOOLKIT = os.environ.get("BRIDGE_TEST_GUI")
_gui = make_gui(_TOOLKIT) if _TOOLKIT else None


_stderr = pytest.StashKey[TextIO]()

# The audit events of a process that is started. multiprocessing's "spawn" and uvloop raise none.
_STARTS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen")
_unseen = dict.fromkeys(_STARTS)
# The hook is C's, called as pop(event, arguments): it removes an event that it sees, and keeps no object alive. A
# function of Python's would be one more place for the interrupts that some tests raise at every point.
sys.addaudithook(_unseen.pop)


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[_stderr] = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    if not config.getoption("--hypothesis-profile", None):
        _bound_hypothesis()


def _bound_hypothesis() -> None:
    """Let a property test report the first example that fails as it is: to shrink it could take minutes.

    ``--hypothesis-profile=default`` shrinks it.
    """
    try:
        from hypothesis import Phase, settings
    except ImportError:  # only the session "tests" has property tests
        return
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    settings.register_profile("bounded", deadline=None, phases=phases, report_multiple_bugs=False)
    settings.load_profile("bounded")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Spread all of the tests over the cores. What is run by name stays in this process, where it can be watched.

    The fast half has two workers for each core, since its tests wait for half of their time.
    """
    if [config.rootpath / each for each in config.args] != [Path(__file__).parent]:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 * cores if config.getoption("markexpr") == "not process" else cores


def pytest_collection_finish() -> None:
    """Let gc.collect(), by which many tests see what is left, look at what the tests make, and not at all modules."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process after the time limit, whose thread cannot run if another never lets go of the GIL."""
    _unseen.update(dict.fromkeys(_STARTS))
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker is not None else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit * 1.25 + 5, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Fail a test that starts a process and is not marked, so that the fast half stays what it says."""
    yield
    if nextitem is not None and nextitem.path != item.path:
        pytest_collection_finish()  # reports, too, are no garbage
    started = [event for event in _STARTS if event not in _unseen]
    if started and item.get_closest_marker("process") is None:
        pytest.fail(f"it starts processes ({', '.join(started)}), so it needs @pytest.mark.process", pytrace=False)


@pytest.hookimpl(optionalhook=True)  # of pytest-timeout's, whose own thread loses every result with the process
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    if settings.method != "thread":
        return None
    timer = threading.Timer(settings.timeout, _run_out, (item, settings.timeout))
    timer.name = f"time limit of {item.nodeid}"

    def cancel() -> None:
        timer.cancel()
        timer.join()

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # pytest-timeout's own hook calls it
    timer.start()
    return True


_RUNNERS = {"_pytest", "execnet", "pluggy", "pytest", "runpy", "xdist"}


def _run_out(item: pytest.Item, limit: float) -> None:
    """Show every thread's stack, and what has been tested so far, and end the process.

    A worker of pytest-xdist's has sent its results. Its end is reported as this test's, and another takes its place.
    """
    try:
        capture = item.config.pluginmanager.getplugin("capturemanager")
        capture.suspend_global_capture()
        said = "".join(filter(None, capture.read_global_capture()))
        stacks = _stacks()
        line = f"{' Timeout ':+^80}\n"
        shown = f"{item.nodeid} has not ended within {limit:g} s\n{said}\n{stacks}"
        stderr = item.config.stash[_stderr]
        stderr.write(f"\n{line}{shown}{line}")
        stderr.flush()
        if not hasattr(item.config, "workerinput"):
            _report(item, shown)
    except BaseException:
        traceback.print_exc(file=item.config.stash[_stderr])
    finally:
        sys.stdout.flush()
        item.config.stash[_stderr].flush()
        os._exit(pytest.ExitCode.TESTS_FAILED)


def _stacks() -> str:
    """Return the stacks of the other threads, without the frames of what runs the tests."""
    found = ""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident in frames:
            stack = [
                (frame, line)
                for frame, line in traceback.walk_stack(frames[thread.ident])
                if frame.f_globals.get("__name__", "").partition(".")[0] not in _RUNNERS
            ]
            found += f"{f' {thread.name} ({thread.ident}) ':~^80}\n"
            found += "".join(traceback.StackSummary.extract(reversed(stack)).format())
    return found


def _report(item: pytest.Item, shown: str) -> None:
    """Print pytest's closing summary, while the test still runs."""
    ran_out = pytest.TestReport(item.nodeid, item.location, {}, "failed", shown, "call")
    reporter: Any = item.config.pluginmanager.getplugin("terminalreporter")
    reporter.stats.setdefault("failed", []).append(ran_out)
    reporter.ensure_newline()
    item.config.hook.pytest_terminal_summary(
        terminalreporter=reporter, exitstatus=pytest.ExitCode.TESTS_FAILED, config=item.config
    )
    reporter.summary_stats()


@pytest.fixture(autouse=True, scope="module")
def no_default_bridge_is_left() -> Iterator[None]:
    """End the default bridge, which plain functions have started, before the next module's tests."""
    yield
    if default_bridge().running:
        default_bridge().close()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge of the test's own, beside whatever reactor the process has."""
    with Bridge("test", install_reactor=False) as each:
        yield each


@pytest.fixture
def unhandled() -> Iterator[list[LogEvent]]:
    """The failures that Twisted logs, such as "Unhandled error in Deferred"."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            events.append(event)

    gc.collect()  # what earlier tests have left, which would be logged in this one
    globalLogPublisher.addObserver(observe)
    yield events
    gc.collect()
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for sockets of AF_UNIX."""
    with socket_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """A screen that nobody sees, for the processes that a test starts."""
    with unseen_screen():
        yield
