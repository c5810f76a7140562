"""Run a test in a Python process of its own: what needs its own ``twisted.internet.reactor``, and what ends a process.

::

    @isolated
    def test_something() -> None:
        from twisted.internet import reactor  # in a process that has imported nothing of Twisted before

    @isolated(status=3, stderr=r"Traceback.*LookupError")
    def test_the_end() -> None: ...

The child compiles this one function from its file, under the file's own name and line numbers, so that a traceback
points into the test. Nothing else of the file is there: the function imports what it needs, and parameters reach it by
their ``repr``. Every warning is an error, and standard error must be empty unless the test says otherwise.
"""

from __future__ import annotations

import ast
import faulthandler
import functools
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bridge

# The children import the package that is being tested here, and this module.
_PATH = os.pathsep.join(str(Path(file).resolve().parent) for file in (Path(bridge.__file__).parent, __file__))
_FORKS = ("-W", "ignore:This process:DeprecationWarning")
# With other options a process that forks others would be started for few tests.
_SHARED = {("-P", "-W", "error"), ("-P", "-W", "error", *_FORKS)}


def isolated(
    test: Callable[..., None] | None = None,
    *,
    status: int = 0,
    stdout: str = "",
    stderr: str = "",
    timeout: float = 40.0,
    options: tuple[str, ...] = ("-W", "error"),
    forks: bool = False,
    fresh: bool = False,
) -> Any:
    """Make a test run in a process of its own.

    :param status: what the process is to exit with; negative for a signal.
    :param stdout: a pattern that all of its standard output matches.
    :param stderr: the same for standard error.
    :param timeout: seconds, after which the process prints the stack of every thread and dies.
    :param options: of the Python interpreter.
    :param forks: whether the test forks. A watchdog of faulthandler's keeps a forked child from exiting, so that there
        an alarm takes its place, which a child does not inherit.
    :param fresh: whether the process is to have imported nothing. Else it has asyncio, and what Twisted and anyio
        import, though not these: it is forked by :mod:`warm`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            lines, first = inspect.getsourcelines(function)
            place = f"{function.__code__.co_filename!r}, {function.__name__!r}, {first}, {first + len(lines)}"
            call = f"{place}, {arguments!r}, {timeout!r}, {forks!r}"
            ended = _run(f"import isolated; isolated.child({call})", ("-P", *options), timeout + 10, fresh)
            shown = f"status {ended.returncode}\n--- stdout:\n{ended.stdout}\n--- stderr:\n{ended.stderr}"
            assert ended.returncode == status, shown
            assert re.fullmatch(stdout, ended.stdout.strip(), re.DOTALL), shown
            assert re.fullmatch(stderr, ended.stderr.strip(), re.DOTALL), shown

        import pytest  # not in the child, which it would take time

        return pytest.mark.process(run)

    return decorate if test is None else decorate(test)


def _run(code: str, options: tuple[str, ...], timeout: float, fresh: bool) -> subprocess.CompletedProcess[str]:
    """Run code in a process, with a limit for the case that its own watchdog is stuck."""
    import warm  # not in the child

    environment = os.environ | {"PYTHONPATH": _PATH}
    if not fresh and options in _SHARED:
        return warm.run(code, options=options, path=_PATH, timeout=timeout, env=environment)
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def child(
    filename: str, name: str, first: int, end: int, arguments: dict[str, Any], timeout: float, forks: bool
) -> None:
    """Call the function of that name in these lines of that file. Runs in the child."""
    faulthandler.enable()
    if forks:
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(int(timeout))
    else:
        faulthandler.dump_traceback_later(timeout, exit=True)
    # Not the whole file, which would take longer than to start Python.
    lines = Path(filename).read_text(encoding="utf-8").split("\n")[first - 1 : end - 1]
    module = ast.increment_lineno(ast.parse("\n".join(lines), filename), first - 1)
    (function,) = module.body
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list.clear()
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": filename}
    exec(compile(module, filename, "exec"), namespace)  # annotations stay strings here as there: by our own __future__
    namespace[name](**arguments)
