"""bridge.ext.nest in a kernel: cells that a front end has queued, as "run all" does, with nested runs in them."""

from __future__ import annotations

import pytest
from shells import Kernel

pytestmark = pytest.mark.process

pytest.importorskip("ipykernel", reason="needs a kernel: pip install ipykernel")

SET_UP = """
import asyncio
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from bridge.ext import nest
nest.apply()

agent = Agent(TestModel(custom_output_text="42"))
loop, done = asyncio.get_running_loop(), []

@agent.tool_plain
async def slow() -> str:
    await asyncio.sleep(0.01)
    return "slowly"

async def work(number):
    await asyncio.sleep(0.01)
    return number
"""
KINDS = [
    "done.append(asyncio.run(work({})))",
    "done.append({} if agent.run_sync('how many?').output == '42' else None)",
    "done.append(loop.run_until_complete(work({})))",
    "done.append(await work({}))",  # on the kernel's own loop, or on the bridge's with the extension
    "with asyncio.Runner() as runner:\n    done.append(runner.run(work({})))",
    "try:\n    asyncio.run(asyncio.wait_for(asyncio.sleep(60), 0.01))\nexcept TimeoutError:\n    done.append({})",
]
MANY = 30


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    made = Kernel(tmp_path_factory.mktemp("home"))
    try:
        yield made
    finally:
        made.close()


def replies(kernel, cells):
    """Send all cells at once, and return the number and the status of each reply, in their order."""
    sent = [kernel.client.execute(cell) for cell in cells]
    came = []
    while len(came) < len(cells):
        reply = kernel.client.get_shell_msg(timeout=40)
        if reply["parent_header"]["msg_id"] in sent:
            came.append((sent.index(reply["parent_header"]["msg_id"]), reply["content"]["status"]))
    return came


def test_an_interrupt_ends_the_nested_run_and_not_the_cells_after_it(kernel):
    assert kernel.run("import asyncio\nfrom bridge.ext import nest\nnest.apply()") == ""
    for run in ("asyncio.run({})", "asyncio.get_running_loop().run_until_complete({})", "asyncio.Runner().run({})"):
        kernel.start(
            "async def stuck():\n    try:\n        print('rea' + 'dy'); await asyncio.sleep(60)\n"
            f"    finally:\n        print('clean' + 'ed')\n{run.format('stuck()')}"
        )
        kernel.wait_for("ready")
        after = kernel.client.execute("after = asyncio.run(asyncio.sleep(0, 6 * 7))")
        kernel.interrupt()
        shown = kernel.finish()
        assert "cleaned" in shown
        assert "KeyboardInterrupt" in shown
        assert "bridge/" not in shown
        while kernel.client.get_shell_msg(timeout=40)["parent_header"]["msg_id"] != after:
            pass
        assert "]: 42" in kernel.run("after")


def test_no_queued_cell_is_lost(kernel):
    pytest.importorskip("pydantic_ai", reason="needs pydantic-ai: pip install pydantic-ai-slim")
    assert kernel.run(SET_UP) == ""
    expected = [(number, "ok") for number in range(MANY)]
    assert replies(kernel, [KINDS[n % len(KINDS)].format(n) for n in range(MANY)]) == expected
    assert kernel.run("print(done)") == f"{list(range(MANY))}\n"
    assert kernel.run("%load_ext bridge\ndone.clear()") == ""
    assert replies(kernel, [KINDS[n % len(KINDS)].format(n) for n in range(MANY)]) == expected
    assert kernel.run("print(done)") == f"{list(range(MANY))}\n"
    assert "Error" not in kernel.run("print(open('kernel.log').read())")  # nor has asyncio reported one
