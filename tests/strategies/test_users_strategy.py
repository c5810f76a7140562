"""A strategy of a user's gets what ours get. programs/piped.py has one that is written with the public names only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from isolated import isolated
from paths import ROOT, TESTS

PROGRAMS = Path(__file__).with_name("programs")
ENTRY_POINTS = "[bridge.strategies]\npiped = piped:Piped\n"


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["registered", "by an entry point"])
def test_conformance(how: str, tmp_path: Path) -> None:
    path = [each for each in sys.path if each]
    command = [sys.executable, "-P", str(PROGRAMS / "with_piped.py")]
    if how == "by an entry point":
        shutil.copy(PROGRAMS / "piped.py", tmp_path)
        info = tmp_path / "piped-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: piped\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        path.append(str(tmp_path))
        command = [sys.executable, "-P", "-m", "pytest"]
    else:
        path.append(str(PROGRAMS))
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
    options = ["-q", "-n0", "-p", "no:cacheprovider", "-k", "piped"]
    names = ("strategies/test_conformance.py", "strategies/test_registry.py", "calls/test_in_caller.py")
    ended = subprocess.run(
        [*command, *config, *options, *[str(TESTS / each) for each in names]],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=220,
    )
    shown = ended.stdout + ended.stderr
    assert ended.returncode == 0, shown
    passed = re.search(r"^(\d+) passed, \d+ deselected in", ended.stdout, re.MULTILINE)
    assert passed is not None, shown
    assert int(passed[1]) > 120, shown


@pytest.mark.parametrize("path", [str(PROGRAMS)], ids=[""])
@isolated(timeout=60)
def test_a_signal_that_meets_the_main_thread_asleep_is_handled_as_soon_as_with_ours(path: str) -> None:
    import asyncio
    import importlib
    import signal
    import sys
    import threading
    import time
    from typing import Any

    from bridge import Bridge

    sys.path.insert(0, path)
    piped: Any = importlib.import_module("piped")
    piped.register()
    main = threading.get_ident()

    def interrupt() -> None:
        """Have CPython note the signal while the main thread sleeps, which that wakes no system call of."""
        while sys._current_frames()[main].f_code.co_name != "wait":
            time.sleep(0.001)
        time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    for strategy in ("lock", "event", "queue", "piped"):
        with Bridge(strategy=strategy, install_reactor=False) as bridge:
            future = bridge.submit(asyncio.sleep(1000))
            ways = {
                "block_on": lambda: bridge.block_on(asyncio.sleep(1000)),
                "block_on with a time-out": lambda: bridge.block_on(asyncio.sleep(1000), timeout=30),
                "result": lambda: future.result(),  # noqa: B023
            }
            for name in ways if strategy == "piped" else ["block_on"]:
                interrupting = threading.Thread(target=interrupt)
                began = time.monotonic()
                try:
                    interrupting.start()
                    ways[name]()
                except KeyboardInterrupt:
                    took = time.monotonic() - began
                else:
                    raise AssertionError((strategy, name))
                assert took < 5, (strategy, name, took)
                interrupting.join()


@pytest.mark.parametrize("path", [str(PROGRAMS)], ids=[""])
@isolated
def test_futures_are_waited_for_by_the_strategy_of_their_bridge(path: str) -> None:
    import asyncio
    import importlib
    import sys
    import threading
    from typing import Any

    import bridge

    sys.path.insert(0, path)
    piped: Any = importlib.import_module("piped")
    waits: list[float | None] = []

    class Waiter(piped.PipeWaiter):  # type: ignore[misc]
        def wait(self, timeout: float | None) -> bool:
            waits.append(timeout)
            return bool(super().wait(timeout))

    class Strategy(piped.Piped):  # type: ignore[misc]
        def waiter(self) -> Waiter:
            return Waiter()

    bridge.configure(strategy=Strategy())
    ways = [
        lambda: bridge.submit(asyncio.sleep(0.01, "value")).result(),
        lambda: bridge.wait([bridge.submit(asyncio.sleep(0.01, "value"))]).done.pop().result(),
        lambda: next(iter(bridge.as_completed([bridge.submit(asyncio.sleep(0.01, "value"))]))).result(),
    ]
    for way in ways:
        waits.clear()
        assert way() == "value"
        assert waits
        assert all(timeout is not None and timeout <= 1 for timeout in waits)
        waits.clear()
        results: list[object] = []
        thread = threading.Thread(target=lambda way=way, results=results: results.append(way()))
        thread.start()
        thread.join(20)
        assert results == ["value"]
        assert waits[0] is None  # in a thread that handles no signals
