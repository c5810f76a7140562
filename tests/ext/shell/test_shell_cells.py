"""One list of cells, run in a terminal and in a kernel, with the extension loaded in the user's way.

The versions of IPython and ipykernel are those that are installed: the nox sessions ``gui`` and ``shell_lowest`` have
the newest and the oldest.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from shells import Kernel, Terminal

pytestmark = pytest.mark.process

pytest.importorskip("IPython", reason="needs IPython: pip install 'bridge-interop[shell]'")

# What the cells use.
SET_UP = (Path(__file__).with_name("cells") / "set_up.py").read_text()


class Cell(NamedTuple):
    """A cell, and patterns of what it shows; what starts with ``not:`` it must not show.

    ``interrupts``: how many it gets after it has printed "ready"; it would take for ever.
    """

    source: str
    shows: tuple[str, ...]
    interrupts: int = 0


CELLS = {
    # --- await
    "await_a_coroutine": Cell("await asyncio.sleep(0, 6 * 7)", (r"Out\[\d+\]: 42",)),
    "await_a_deferred": Cell("await later(6 * 7)", (r"Out\[\d+\]: 42",)),
    "await_both_in_one_cell": Cell(
        "a = await asyncio.sleep(0, 3)\nb = await later(4)\na, b, await succeed(a * b)", (r"\(3, 4, 12\)",)
    ),
    "await_inside_what_is_awaited": Cell("await asyncio.sleep(0, 2 * await later(21))", (r"Out\[\d+\]: 42",)),
    "await_a_gather_that_needs_a_loop": Cell("await asyncio.gather(later(1), asyncio.sleep(0, 2))", (r"\[1, 2\]",)),
    "await_a_task_of_an_earlier_cell": Cell(
        "task = asyncio.ensure_future(asyncio.sleep(0.05, 'do' + 'ne'))\nawait task", (r"'done'",)
    ),
    "await_a_thread_s_future": Cell(
        "import concurrent.futures\npool = concurrent.futures.ThreadPoolExecutor()\n"
        "result = await pool.submit(int, '42')\npool.shutdown()\nresult + 1",
        (r"43",),
    ),
    "await_in_a_loop_of_the_cell": Cell(
        "for i in range(2):\n    print('row', i, await later(i * 11))\n", (r"row 0 0\s+row 1 11",)
    ),
    "await_in_a_try": Cell(
        "try:\n    await bad()\nexcept LookupError as e:\n    print('caught', *e.args)\n", (r"caught badly",)
    ),
    "walrus_in_an_await": Cell("await asyncio.sleep(0, (deep := 6) * 7), deep", (r"\(42, 6\)",)),
    # --- the wrong thread
    "a_call_of_the_reactor_in_the_shells_thread": Cell(
        "import sys\nfrom twisted.web.client import Agent\n"
        "bridge.block_on(Agent(reactor).request(b'GET', b'http://127.0.0.1:9/'))",
        (
            r"\n    await Agent\(reactor\).request\(b'GET', b'http://127.0.0.1:9/'\) +#",
            r"\n    (bridge\.)?block_on\(lambda: Agent",
            r"\n    %%loop +#",
            r"WrongThreadError: Agent\(reactor\).request.* in the thread 'MainThread' \((Cell )?In ?\[\d+\], line 3\)",
            r"-> +3 bridge.block_on\(Agent",
            "not:python -m bridge run",
            "not:site-packages|in GuardedReactor",
            r"\A([^\n]*\n){,24}[^\n]*\Z",  # a screen
        ),
    ),
    "what_it_says_works": Cell(
        "try:\n    await Agent(reactor).request(b'GET', b'http://127.0.0.1:9/')\nexcept Exception as e:\n    print(e)",
        ("Connection was refused",),
    ),
    "in_a_function_there_is_no_await": Cell(
        "def f():\n    return deferLater(reactor, 0, str)\nf()",
        (r"\n    (bridge\.)?block_on\(lambda: deferLater\(reactor, 0, str\)\)", r"\n    %%loop +#", "not:    await"),
    ),
    # --- context variables
    "context_variables_cross": Cell(
        "v = contextvars.ContextVar('v', default=0)\nasync def sets(): v.set(v.get() + 5)\n"
        "v.set(1); await sets(); v.get() * 7",
        (r"42",),
    ),
    "cells_run_in_the_main_thread": Cell(
        "await later(0)\nthreading.current_thread() is threading.main_thread(), await asyncio.to_thread(int, 7)",
        (r"\(True, 7\)",),
    ),
    "awaited_code_runs_on_the_loop": Cell(
        "async def where(): return threading.current_thread().name, asyncio.get_running_loop() is loop\nawait where()",
        (r"\('bridge', True\)",),
    ),
    # --- async for, async with, comprehensions
    "async_for": Cell("total = 0\nasync for n in agen(4):\n    total += n\ntotal, n", (r"\(6, 3\)",)),
    "async_for_inside_a_for_with_break": Cell(
        "for k in range(5):\n    async for j in agen(3):\n        pass\n    if k == 2: break\n(k, j)", (r"\(2, 2\)",)
    ),
    "async_with": Cell(
        "async with asyncio.timeout(5) as scope:\n    got: int = await later(9)\nscope.expired(), got",
        (r"\(False, 9\)",),
    ),
    "async_with_a_task_group": Cell(
        "async with asyncio.TaskGroup() as group:\n    one = group.create_task(later(1) and asyncio.sleep(0, 1))\n"
        "    def f(): return one\none.result(), f() is one",
        (r"\(1, True\)",),
    ),
    "async_with_time_out": Cell(
        "async with asyncio.timeout(0.01):\n    await later(9, 30)\n", (r"TimeoutError", r"Cell In\[\d+\], line 1")
    ),
    "async_comprehensions": Cell(
        "[x async for x in agen(3)], {x async for x in agen(2)}, {x: await later(x) async for x in agen(2)}",
        (r"\(\[0, 1, 2\], \{0, 1\}, \{0: 0, 1: 1\}\)",),
    ),
    "await_in_a_comprehension": Cell(
        "[[await asyncio.sleep(0, y) for y in range(x)] for x in range(3)]", (r"\[\[\], \[0\], \[0, 1\]\]",)
    ),
    "generator_expression": Cell(
        "g = (await asyncio.sleep(0, x) for x in range(3))\n[x async for x in g]", (r"\[0, 1, 2\]",)
    ),
    # --- tasks that are left in the background
    "create_task_goes_to_our_loop": Cell(
        "async def tell(): return threading.current_thread().name\n"
        "background = asyncio.create_task(tell()); background.get_loop() is loop",
        (r"Out\[\d+\]: True",),
    ),
    "create_task_in_a_function_of_the_cell": Cell(
        "def go():\n    return asyncio.create_task(asyncio.sleep(0, 5))\nawait go()", (r"Out\[\d+\]: 5",)
    ),
    "as_completed": Cell(
        "for done in asyncio.as_completed([asyncio.sleep(0, 1), asyncio.sleep(0, 2)]):\n    print('row', await done)\n",
        (r"row [12]\s+row [12]",),
    ),
    "create_task_by_another_name": Cell(
        "from asyncio import create_task as spawn\nawait spawn(asyncio.sleep(0, 5))", (r"Out\[\d+\]: 5",)
    ),
    "create_task_is_shown_as_it_is": Cell("asyncio.create_task(asyncio.sleep(0.3))", (r"Out\[\d+\]: <Task",)),
    "a_method_of_that_name_is_left_alone": Cell(
        "class C:\n    def gather(self, x): return x * 2\nC().gather(21)", (r"Out\[\d+\]: 42",)
    ),
    # --- what is shown
    "shown_deferred": Cell("succeed(6 * 7)", (r"Out\[\d+\]: 42",)),
    "shown_coroutine": Cell("asyncio.sleep(0, 6 * 7)", (r"Out\[\d+\]: 42",)),
    "shown_future": Cell("bridge.submit(lambda: later(42))", (r"\]: 42",)),
    "out_holds_the_value": Cell("_ + 1, Out[max(Out)] + 2", (r"\(43, 44\)",)),
    "semicolon_silences": Cell("asyncio.sleep(0, 6 * 7);", (r"not:Out",)),
    "shown_error": Cell("bad()", (r"LookupError: badly", r"Cell In\[\d+\], line 1", r"not:ext/", r"not:_call")),
    "autoblock_off": Cell("%autoblock off\nd = Deferred()\nd", (r"autoblock is off", r"<Deferred")),
    "autoblock_on": Cell("%autoblock on\nd.callback(5)\nd", (r"autoblock is on", r"Out\[\d+\]: 5")),
    "autoblock_wrong": Cell("%autoblock perhaps", (r"UsageError: %autoblock takes 'on' or 'off'",)),
    # --- errors
    "error_of_a_coroutine": Cell(
        "x = 1\nawait bad()",
        (r"LookupError: badly", r"Cell In\[\d+\], line 2", r"in bad\(\)", r"not:<lambda>", r"not:bridge/ext"),
    ),
    "error_of_a_deferred": Cell(
        "await fail(LookupError('bad' + 'ly'))",
        (r"LookupError: badly", r"line 1", r"not:twisted/internet", r"not:<lambda>"),
    ),
    "error_of_the_expression": Cell(
        "await asyncio.sleep(\n    0,\n    undefined_name)", (r"NameError", r"undefined_name", r"not:bridge/ext")
    ),
    "error_in_an_async_with": Cell(
        "async with asyncio.timeout(9):\n    pass\n    await bad()\n",
        (r"LookupError: badly", r"Cell In\[\d+\], line 3", r"not:bridge/ext"),
    ),
    "await_of_what_is_not_awaitable": Cell("await 42", (r"TypeError: .*int.* can't be (used in 'await'|awaited)",)),
    "return_stays_a_mistake": Cell(
        "async with asyncio.timeout(9):\n    return 1\n", (r"SyntaxError: 'return' outside",)
    ),
    # --- magics of IPython
    "time": Cell("%time await later(6 * 7)", (r"Wall time", r"Out\[\d+\]: 42")),
    "time_of_a_cell": Cell(
        "%%time\ntimed = await later(6)\nasync for n in agen(2): pass\ntimed * 7", (r"Wall", r"\]: 42")
    ),
    "timeit": Cell("%timeit -n 3 -r 1 await asyncio.sleep(0)", (r"per loop", r"3 loops each")),
    "timeit_of_a_cell": Cell("%%timeit -n 3 -r 1\nasync for n in agen(2):\n    pass\n", (r"per loop",)),
    "capture": Cell("%%capture got\nprint('ca' + 'ught', await later(1))", (r"not:caught",)),
    "captured": Cell("got.stdout", (r"'caught 1\\n'",)),
    "macro": Cell("seen = await later(21)", ()),
    "macro_is_made": Cell("%macro -q twice {len(In) - 2}\nseen = 0", ()),
    "macro_is_run": Cell("twice", ()),
    "macro_ran": Cell("seen * 2", (r"Out\[\d+\]: 42",)),
    "run": Cell(
        "with open('script.py', 'w') as f:\n    print('from bridge import block_on', 'import asyncio',"
        " 'ran = block_on(asyncio.sleep(0, 42))', sep='\\n', file=f)\n%run script.py\nran + 1",
        (r"Out\[\d+\]: 43",),
    ),
    "reset": Cell("%reset -f\nimport asyncio\nawait asyncio.sleep(0, 42)", (r"Out\[\d+\]: 42",)),
    # --- %%loop
    "loop_cell": Cell(
        f"%%loop\n{SET_UP}\nfrom twisted.internet import reactor\nfrom bridge import block_on, default_bridge\n"
        "here = threading.current_thread().name\nreactor.callLater(0, lambda: None)\nawait later(here.upper())",
        (r"Out\[\d+\]: 'BRIDGE'",),
    ),
    "loop_cell_binds_names": Cell("here + '!'", (r"'bridge!'",)),
    "loop_cell_blocks_by_a_switch": Cell("%%loop\nblock_on(later(21)) * 2", (r"Out\[\d+\]: 42",)),
    "loop_cell_shows_a_deferred": Cell("%%loop\nlater(6 * 7)", (r"Out\[\d+\]: 42",)),
    "loop_cell_error": Cell(
        "%%loop\ndef f():\n    raise LookupError('bad' + 'ly')\nf()",
        (r"LookupError: badly", r"Cell In\[\d+\], line 4", r"line 3, in f", r"not:run_cell_magic", r"not:_magics"),
    ),
    "loop_cell_mistake": Cell(
        "%%loop\nx = 1\nx +", (r"SyntaxError: invalid", r"line 3", r"not:run_cell_magic", r"not:ext/")
    ),
    "mistake_after_it": Cell("def x(:", (r"SyntaxError",)),
    "loop_cell_shows_a_thread_s_future": Cell(
        "%%loop\nimport concurrent.futures\npool = concurrent.futures.ThreadPoolExecutor()\npool.submit(int, '42')",
        (r"Out\[\d+\]: 42",),
    ),
    "loop_cell_async_for": Cell("%%loop\nasync for n in agen(8):\n    pass\nn", (r"Out\[\d+\]: 7",)),
    # --- interrupts
    "interrupt_block_on": Cell(
        "print('rea' + 'dy'); block_on(asyncio.sleep(60))", (r"KeyboardInterrupt", r"not:asyncio/"), True
    ),
    "interrupt_await": Cell("print('rea' + 'dy'); await later(0, 60)", (r"KeyboardInterrupt", r"not:bridge/_"), 1),
    "interrupt_cleans_up": Cell(
        "async def tidy():\n    try:\n        print('rea' + 'dy'); await asyncio.sleep(60)\n"
        "    finally:\n        await asyncio.sleep(0); print('clean' + 'ed')\nawait tidy()",
        (r"cleaned", r"KeyboardInterrupt"),
        1,
    ),
    # A signal that comes as a sleep begins does not end it, so one long sleep would be slept through now and then.
    "interrupt_sleep": Cell(
        "print('rea' + 'dy')\nfor _ in range(6000): time.sleep(0.01)\n", (r"KeyboardInterrupt",), 1
    ),
    "interrupt_async_for": Cell(
        "print('rea' + 'dy')\nasync for n in agen(2):\n    await later(0, 60)\n", (r"KeyboardInterrupt",), True
    ),
    "interrupt_async_with": Cell(
        "print('rea' + 'dy')\nasync with asyncio.timeout(99):\n    await later(0, 60)\n", (r"KeyboardInterrupt",), True
    ),
    "interrupt_async_comprehension": Cell(
        "print('rea' + 'dy'); [await later(0, 60) async for n in agen(2)]", (r"KeyboardInterrupt",), True
    ),
    "interrupt_what_is_shown": Cell("stuck = Deferred(); print('rea' + 'dy')\nstuck", (r"KeyboardInterrupt",), 1),
    "interrupt_left_it_alone": Cell("stuck.callback(42)\nstuck", (r"Out\[\d+\]: 42",)),
    "interrupt_loop_cell": Cell(
        "%%loop\nprint('rea' + 'dy'); await later(0, 60)", (r"KeyboardInterrupt", r"not:run_cell_magic"), 1
    ),
    "interrupt_blocked_loop_cell": Cell(
        "%%loop\nprint('rea' + 'dy'); block_on(later(0, 60))", (r"KeyboardInterrupt",), True
    ),
    "interrupt_loop_cell_that_computes": Cell(
        "%%loop\nimport itertools\nprint('rea' + 'dy')\nfor i in itertools.count(): pass",
        (r"KeyboardInterrupt", r"not:ext/", r"-> \d+ for i in itertools", r"not:During handling"),
        2,
    ),
    "the_loop_goes_on_after_it": Cell("await later(6 * 7)", (r"Out\[\d+\]: 42", r"not:bridge:")),
    "interrupt_time": Cell("print('rea' + 'dy')\n%time await later(0, 60)", (r"KeyboardInterrupt",), 1),
    "interrupt_caught_by_the_cell": Cell(
        "try:\n    print('rea' + 'dy'); await later(0, 60)\nexcept KeyboardInterrupt:\n    print('caught', 6 * 7)\n",
        (r"caught 42",),
        1,
    ),
    "works_after_interrupts": Cell("await later(6 * 7)", (r"Out\[\d+\]: 42",)),
    # --- %bridge
    "status": Cell("%bridge", (r"loop +runs, a SwitchingLoop", r"open calls +0")),
    "status_with_an_open_call": Cell(
        "def waits():\n    try:\n        block_on(asyncio.sleep(60))\n    except Exception as e:\n        ended = e\n"
        "waiting = threading.Thread(target=waits)\nwaiting.start()\n"
        "while not default_bridge().last_run.open: time.sleep(0.01)\n%bridge",
        (r"open calls +1", r"block_on\(coroutine sleep\)", r"in waits", r"not:on the loop's own thread"),
    ),
    # --- the death of the loop
    "reactor_stop_is_said": Cell(
        "block_on(lambda: reactor.callLater(0, reactor.stop))\nwhile default_bridge().running: time.sleep(0.01)\n",
        (r"bridge: the reactor was stopped; the next call starts a new loop",),
    ),
    "reactor_stop_is_said_once": Cell("1 + 1", (r"not:bridge:",)),
    "next_call_starts_a_new_life": Cell("await later(6 * 7)", (r"Out\[\d+\]: 42", r"not:bridge:")),
    "status_of_the_new_life": Cell("%bridge", (r"loop +runs",)),
}


class In(NamedTuple):
    """A shell, with what it showed for the cells that it has run."""

    shell: Any
    shown: dict[str, str]


def terminal(home: Any) -> Any:
    return Terminal(home, "-m", "IPython", "--no-banner", "--no-confirm-exit")


def kernel(home: Any) -> Any:
    pytest.importorskip("ipykernel", reason="needs a kernel: pip install ipykernel")
    return Kernel(home)


@pytest.fixture(scope="module", params=[terminal, kernel], ids=lambda make: make.__name__)
def shell(request, tmp_path_factory):
    made = request.param(tmp_path_factory.mktemp("home"))
    try:
        assert made.run("%load_ext bridge").strip() == ""
        assert made.run(SET_UP).strip() == ""
        yield made
    finally:
        made.close()


# In the order of the list, as the cells build upon one another. That is one test a cell, but one shell for all of them.
@pytest.mark.parametrize("name", CELLS)
def test_cell(shell, name):
    cell = CELLS[name]
    shell.start(cell.source)
    if cell.interrupts:
        shell.wait_for("ready")
    for number in range(cell.interrupts):
        if number:
            time.sleep(0.2)  # two that come together are one signal
        shell.interrupt()
    shown = shell.finish()
    for pattern in cell.shows:
        if pattern.startswith("not:"):
            assert not re.search(pattern.removeprefix("not:"), shown), shown
        else:
            assert re.search(pattern, shown), shown
