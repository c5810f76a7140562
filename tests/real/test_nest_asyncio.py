"""nest_asyncio, which puts tasks and loops of its own in the places of asyncio's, for good: all goes on working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ENVIRONMENT

# nest_asyncio itself is no longer developed, and breaks asyncio.timeout() of the standard loop from Python 3.14 on.
MODULE = "nest_asyncio" if sys.version_info < (3, 14) else "nest_asyncio2"
PROGRAM = Path(__file__).parent / "programs" / "nests.py"

pytest.importorskip(MODULE)
pytestmark = [pytest.mark.process, pytest.mark.any_python]


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_may_be_applied_before_and_after_the_first_call(when: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, when, MODULE],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "everything\n", ""), ended.stderr


def test_in_cells_of_a_notebook(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    from shells import Kernel

    kernel = Kernel(tmp_path)
    try:
        kernel.run("import asyncio, nest_asyncio as nest\nfrom bridge import block_on".replace("nest_asyncio", MODULE))
        call = "block_on(asyncio.sleep(0.001, 'slept'), timeout=20)"
        assert kernel.run(call) == "Out[2]: 'slept'\n"
        kernel.run("nest.apply()")
        assert kernel.run(call) == "Out[4]: 'slept'\n"
        assert kernel.run("asyncio.run(asyncio.sleep(0.001, 'nested'))") == "Out[5]: 'nested'\n"
        kernel.run("async def nests(): return asyncio.run(asyncio.sleep(0.001, 'nested'))")
        assert kernel.run("block_on(nests(), timeout=20), await nests()") == "Out[7]: ('nested', 'nested')\n"
    finally:
        kernel.close()
