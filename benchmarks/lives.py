"""Once in a program: the import, the start of a bridge, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from time import perf_counter

from bridge import Bridge
from bridge._cli.bench.model import Host, Measure, Row, Table


def _process(code: str, host: Host) -> Measure:
    """Start Python, run the code, and end."""
    # Without the current directory on the path: an installed bridge shall not lose to a checkout that we stand in.
    command = [sys.executable, "-P", "-c", code]
    # A checkout is compiled once, as an installed package is; else each process would do it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, env=environment)

    def measure(times: int) -> list[float]:
        took: list[float] = []
        for _ in range(times):
            begin = perf_counter()
            subprocess.run(command, check=True, env=environment)
            took.append(perf_counter() - begin)
        return took

    return measure


def _bridge(part: int, host: Host) -> Measure:
    """Start a bridge, close it, and return the time of the one or the other."""

    def measure(times: int) -> list[float]:
        took: list[float] = []
        for _ in range(times):
            each = Bridge(install_reactor=False)
            clock = [perf_counter()]
            each.start()
            clock.append(perf_counter())
            assert each.running
            each.close()
            clock.append(perf_counter())
            took.append(clock[part + 1] - clock[part])
        return took

    return measure


def tables() -> list[Table]:
    first_call = "import asyncio, bridge; assert bridge.block_on(asyncio.sleep(0, 42)) == 42"
    work = "async def work(): return 42"
    runner = f"import asyncio\n{work}\nassert asyncio.Runner().run(work()) == 42"
    block_on = f"import bridge\n{work}\nassert bridge.block_on(work()) == 42"
    codes = [
        ("nothing", "nothing", "pass"),
        ("parts", "twisted.internet.asyncioreactor, anyio", "import twisted.internet.asyncioreactor, anyio"),
        ("bridge", "bridge", "import bridge; assert bridge.block_on"),
        ("first_call", "bridge, and a first call", first_call),
    ]
    imports = [
        Row(f"import/{name}", label, f"import/{name}", partial(_process, code), times=1) for name, label, code in codes
    ]
    calls = [
        ("asyncio", "asyncio", "import asyncio"),
        ("package", "bridge", "import bridge"),
        ("runner", "asyncio.Runner, one coroutine", runner),
        ("block_on", "block_on, one coroutine", block_on),
    ]
    processes = [
        Row(f"process/{name}", label, f"process/{name}", partial(_process, code), times=1)
        for name, label, code in calls
    ]
    lives = [
        Row("life/start", "bridge: start", "life", partial(_bridge, 0), times=5),
        Row("life/close", "bridge: close", "life", partial(_bridge, 1), times=5),
    ]
    return [
        Table("A whole process that imports", imports, {"of its parts": "import/parts"}),
        Table("A whole process without Twisted", processes, {"of asyncio.Runner's": "process/runner"}),
        Table("A bridge, after the imports", lives, {}),
    ]
