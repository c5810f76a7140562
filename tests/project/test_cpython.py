"""CPython's own ``test.test_asyncio``, run with our loop in the place of the standard library's.

Each module runs in a process of its own (:mod:`cpython`). What fails on the standard library's loop too, on this very
machine, is none of ours: both loops run it again, without the others, and it must fail on ours only to count.

``BRIDGE_CPYTHON=all`` runs every test; without it the slow variants are left out, which run the same tests once more on
the tasks and futures that are written in Python.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from paths import ENVIRONMENT, HELPERS

pytestmark = pytest.mark.process

ALL = os.environ.get("BRIDGE_CPYTHON") == "all"

needs_tests = pytest.mark.skipif(
    importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_asyncio") is None,
    reason="needs CPython's own tests: on Debian apt-get install libpython3-testsuite; pyenv has them",
)

# Their tests sleep for most of their time, so that three processes keep one core busy.
AT_ONCE = 3
# Every module of the suite, but for those of Windows and those that make no loop of the system's kind, but one of
# their own on mocks: test_futures, test_pep492, test_protocols, test_selector_events, test_transports.
MODULES = [
    *("subprocess", "events", "ssl", "taskgroups", "sslproto", "tasks"),  # the longest begin first
    *("base_events", "buffered_proto", "context", "eager_task_factory", "futures2", "locks", "queues", "runners"),
    *("sendfile", "server", "sock_lowlevel", "staggered", "streams", "threads", "timeouts", "unix_events", "waitfor"),
]

# The same tests on tasks and futures that are written in Python, and on subclasses of C's: they take most of the time.
VARIANTS = r"Py(Task|Future)|_Py|SubclassTests|CTask_CFuture_Subclass"
# Tests of asyncio's half in Python, put in the place of the one in C. From CPython 3.14 on a task of C's class, as ours
# is, takes no step on a loop that runs by the half in Python.
if sys.version_info >= (3, 14):
    VARIANTS += "|TestPyGetEventLoop"


WITHOUT = "$^" if ALL else VARIANTS


def exists(module: str) -> bool:
    return importlib.util.find_spec(f"test.test_asyncio.test_{module}") is not None


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Any]]]:
    """The runs on our loop of the modules that this session tests, some at a time.

    Where several workers share the modules, each runs its own one by one.
    """
    mine = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    modules = [item.callspec.params["module"] for item in mine if "module" in item.callspec.params]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
            modules = []
        yield {module: pool.submit(run, "ours", module, "", WITHOUT) for module in modules if exists(module)}
        pool.shutdown(cancel_futures=True)


@needs_tests
@pytest.mark.timeout(400)
@pytest.mark.parametrize("module", MODULES)
def test_asyncio_passes_on_our_loop(module: str, runs: dict[str, Future[Any]]) -> None:
    if not exists(module):
        pytest.skip("this Python's suite has no such module")
    result = runs[module].result() if module in runs else run("ours", module, "", WITHOUT)
    assert result["ran"] > 0
    assert result["made"] > 0
    if not result["failed"]:
        return
    # A class or module whose set-up fails is no test that could be chosen; then all of them run.
    names = [re.escape(name) + "$" for name in result["failed"]]
    chosen = "|".join(names) if not any("(" in name for name in result["failed"]) else ""
    # Some have time limits that a busy machine exceeds. As CPython's own runner does with --rerun, what has failed is
    # run again, without the others.
    concurrent.futures.wait(runs.values())
    stock = run("stock", module, chosen, WITHOUT)
    for _ in range(2):
        again = run("ours", module, chosen, WITHOUT)
        ours_only = {name: text for name, text in again["failed"].items() if name not in stock["failed"]}
        if not ours_only:
            break
    assert not ours_only, "\n\n".join(f"{name}\n{text}" for name, text in ours_only.items())


def run(loop: str, module: str, only: str, left_out: str) -> Any:
    """Run a module of the suite in a process of its own and return what it prints."""
    command = [sys.executable, str(HELPERS / "cpython.py"), loop, only, left_out, f"test_{module}"]
    ended = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert lines, ended.stderr
    return json.loads(lines[-1])
