"""How cells are rewritten, and what they do then; without IPython."""

from __future__ import annotations

import ast
import asyncio
import builtins
import gc
import sys
import textwrap
import threading
import traceback
import warnings

import pytest
from isolated import isolated

from bridge import BridgeError, DeadlockError, default_bridge
from bridge.ext import _cells
from bridge.ext._cell import Cell, is_blocked_on
from bridge.ext._cells import ASYNC_PART, CELL, CellTransformer


class Shell:
    """Runs cells as IPython does: statement by statement, and the value of a last expression is shown."""

    def __init__(self):
        self.names = {"asyncio": asyncio, "threading": threading}
        self.globals = None  # where they are not the names themselves, as for IPython.embed()
        self.awaits, self.shows, self.blocks = True, "last", True
        self.cell = Cell(lambda: self.names, lambda: self.blocks)
        self.transformer = CellTransformer(lambda: self.awaits, lambda: self.shows, self.names.get)

    def run(self, source):
        tree = self.transformer.visit(ast.parse(textwrap.dedent(source), "<the cell>"))
        *statements, last = ast.fix_missing_locations(tree).body
        if not isinstance(last, ast.Expr):
            statements, last = tree.body, None
        spaces = (self.names,) if self.globals is None else (self.globals, self.names)
        exec(compile(ast.Module(statements, []), "<the cell>", "exec"), *spaces)
        return None if last is None else eval(compile(ast.Expression(last.value), "<the cell>", "eval"), *spaces)


@pytest.fixture
def shell():
    made = Shell()
    setattr(builtins, CELL, made.cell)
    yield made
    delattr(builtins, CELL)


# --- what is rewritten, and what is left


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "def f(a=1, *b, c: int = 2, **d) -> int:\n    return [y for y in a if (z := y)]",
        "async def f():\n    async for x in g():\n        await x\n    return [y async for y in z]",
        "class C(B, metaclass=M):\n    async def m(self): await self.x",
        "f = lambda: (await x for x in y)",
        "g = (await x for x in y)",
        "group.run(x)",
        "try:\n    pass\nexcept* ValueError as e:\n    raise\nelse:\n    del x",
        "match x:\n    case [1, *rest]: pass\n    case {'a': b, **more}: pass",
        "return await x",  # Python is to say that it is a mistake
        "yield x",
        "async with x:\n    return 1",
        "async for x in y:\n    yield x",
    ],
)
def test_what_awaits_nothing_is_left_as_it_is(source):
    transformer = CellTransformer(lambda: True, lambda: "none", lambda name: None)
    mistakes = source.startswith(("return", "yield"))
    after = ast.dump(transformer.visit(ast.parse(source)))
    assert mistakes or after == ast.dump(ast.parse(source))


def test_nothing_is_rewritten_where_the_shell_does_not_await(shell):
    shell.awaits = False
    with pytest.raises(SyntaxError, match="'await' outside function"):
        shell.run("await asyncio.sleep(0)")


def test_only_whole_cells_are_rewritten(shell):
    tree = ast.Expression(ast.Await(ast.Name("x", ast.Load())))
    assert shell.transformer.visit(tree) is tree


def test_transformer_never_raises_and_leaves_the_cell_whole(shell, monkeypatch):
    def fail(*arguments):
        raise LookupError("a mistake of ours")

    source = "x = await f()\ny = [z async for z in g()]\ny"
    tree = ast.parse(source)
    monkeypatch.setattr(_cells, "_bind", fail)
    monkeypatch.setattr(_cells._CellScope, "_comprehension", fail)
    with pytest.warns(UserWarning, match="could not be rewritten: LookupError"):
        assert shell.transformer.visit(tree) is tree
    assert ast.dump(tree) == ast.dump(ast.parse(source))


def test_deep_expressions_do_not_break_the_transformer(shell):
    sum_of_many = "+".join(["1"] * 900)
    tree = shell.transformer.visit(ast.parse(sum_of_many))
    assert ast.unparse(tree.body[-1].value.func).endswith(".show")
    tree = ast.parse(f"await {sum_of_many}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is left as it stands, where Python's stack is too short
        assert isinstance(shell.transformer.visit(tree), ast.Module)


# --- await


def test_awaited_expression_is_evaluated_on_the_loop_and_the_cell_stays_in_its_thread(shell):
    shell.run(
        """
        async def name(x): return x, threading.current_thread().name
        evaluated, ran = await name(threading.current_thread().name)
        here = threading.current_thread()
        """
    )
    assert shell.names["evaluated"] == shell.names["ran"] == default_bridge().name
    assert shell.names["here"] is threading.current_thread()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("await asyncio.sleep(0, 1) + await asyncio.sleep(0, 2)", 3),
        ("await asyncio.sleep(0, await asyncio.sleep(0, await asyncio.sleep(0, 3)))", 3),
        ("await asyncio.sleep(0, (x := 4)) + x", 8),
        ("[x := 5, await asyncio.sleep(0, x), x]", [5, 5, 5]),
        ("await asyncio.sleep(0, [y := x for x in range(3)]), y", ([0, 1, 2], 2)),
        ("f'{await asyncio.sleep(0, 6):>{await asyncio.sleep(0, 3)}}'", "  6"),
        ("(lambda x=await asyncio.sleep(0, 7): x)()", 7),
        ("8 if await asyncio.sleep(0, False) else 9", 9),
        ("False and await asyncio.sleep(0, 1 / 0)", False),
        ("[await asyncio.sleep(0, x) for x in range(3) if await asyncio.sleep(0, x)]", [1, 2]),
        ("[x for x in await asyncio.sleep(0, [1, 2])]", [1, 2]),
        ("{x: await asyncio.sleep(0, -x) for x in range(2)}", {0: 0, 1: -1}),
        ("{await asyncio.sleep(0, x) for x in (1, 1)}", {1}),
        ("[[await asyncio.sleep(0, x * y) for x in range(2)] for y in range(2)]", [[0, 0], [0, 1]]),
        ("[(z := await asyncio.sleep(0, x)) for x in range(3)] + [z]", [0, 1, 2, 2]),
        ("sum([x async for x in (await asyncio.sleep(0, y) for y in range(4))])", 6),
        ("list(x for x in await asyncio.sleep(0, (1, 2)))", [1, 2]),
        ("[x async for x in (y async for y in (await asyncio.sleep(0, z) for z in range(2)))]", [0, 1]),
        ("await asyncio.shield(asyncio.ensure_future(asyncio.sleep(0, 10)))", 10),
    ],
)
def test_await_in_an_expression(shell, source, value):
    assert shell.run(source) == value


def test_await_in_statements(shell):
    shell.run(
        """
        total = 0
        for x in await asyncio.sleep(0, range(5)):
            if await asyncio.sleep(0, x == 1):
                continue
            if x == 4:
                break
            total += await asyncio.sleep(0, x)
        while await asyncio.sleep(0, total < 50):
            total *= 2
        match await asyncio.sleep(0, total):
            case n if await asyncio.sleep(0, True):
                found = n
        @(await asyncio.sleep(0, lambda f: f()))
        def decorated(x=await asyncio.sleep(0, 3)): return x
        class C(await asyncio.sleep(0, object)): pass
        """
    )
    assert (shell.names["total"], shell.names["found"], shell.names["decorated"]) == (80, 80, 3)
    assert shell.names["C"].__base__ is object


def test_future_of_a_loop_in_another_thread_is_awaited(shell, bridge):
    shell.names["future"] = bridge.run(lambda: asyncio.ensure_future(asyncio.sleep(0.01, "elsewhere")))
    assert shell.run("await future") == "elsewhere"


def test_future_of_the_loop_that_runs_in_this_thread_is_refused_but_shown(shell):
    async def main():
        shell.names["future"] = future = asyncio.get_running_loop().create_future()
        with pytest.raises(DeadlockError):
            shell.run("await future")
        assert shell.run("future") is future

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="Python 3.15 has brought unpacking in comprehensions")
def test_unpacking_in_comprehensions(shell):
    each = "for n in (await asyncio.sleep(0, m) for m in range(3))"
    assert shell.run(f"[*[n, n] async {each}]") == [0, 0, 1, 1, 2, 2]
    assert shell.run(f"{{*[n, -n] async {each}}}") == {-2, -1, 0, 1, 2}
    assert shell.run(f"{{**{{n: -n}} async {each}}}") == {0: 0, 1: -1, 2: -2}


# --- async for and async with


def test_statement_with_an_async_for_binds_the_cells_own_names(shell):
    shell.run(
        """
        import contextlib
        async def numbers(n):
            for i in range(n):
                yield i
        @contextlib.asynccontextmanager
        async def opened():
            yield "open"
        a: int = 0
        async for i in numbers(3):
            a += i
            b: int = i
            c: str
            import os.path, ast as tree
            from sys import path as p
            def f(): return i
            class K: z = 1
            try:
                1 / 0
            except ZeroDivisionError as e:
                g = (h := 5)
            match [1, 2, {"k": 3}]:
                case [first, *_, {"k": k, **rest}] as whole: pass
            l = [q for q in range(2)]
            for m, (n, *o) in [(1, (2, 3))]: pass
            async with opened() as w: d = 1
            del d
        else:
            ended = True
        """
    )
    names = shell.names
    assert (names["a"], names["b"], names["i"], names["f"](), names["h"], names["w"]) == (3, 2, 2, 2, 5, "open")
    assert {"os", "tree", "p", "K", "g", "first", "k", "rest", "whole", "l", "m", "n", "o", "ended"} <= names.keys()
    assert {"c", "d", "e", "q", "path", ASYNC_PART}.isdisjoint(names)


def test_statement_around_an_async_with_runs_as_a_whole_in_one_task(shell):
    shell.run(
        """
        tasks = set()
        for i in range(9):
            async with asyncio.timeout(9):
                tasks.add(asyncio.current_task())
            if i == 2:
                break
        """
    )
    assert len(shell.names["tasks"]) == 1
    assert shell.names["i"] == 2


def test_name_of_the_task_s_function_is_gone_after_an_error_too(shell):
    with pytest.raises(ZeroDivisionError):
        shell.run("async with asyncio.timeout(9):\n    1 / 0")
    assert ASYNC_PART not in shell.names


def test_variables_of_the_function_that_embeds_the_shell_are_seen(shell):
    shell.globals = {"asyncio": asyncio, "x": "global", "y": 3}
    shell.names["x"] = 2
    assert shell.run("await asyncio.sleep(0, x * y)") == 6
    assert shell.run("[await asyncio.sleep(0, x + z) for z in range(2)]") == [2, 3]
    shell.run("for i in range(3):\n    async with asyncio.timeout(9):\n        x = new = x + i + y")
    assert (shell.names["x"], shell.names["new"], shell.names["i"], shell.globals["x"]) == (14, 14, 2, "global")


# --- functions of asyncio's that need a loop


@pytest.mark.parametrize("spelled", ["asyncio.create_task", "make", "spawn", "aio.create_task", "create_task"])
def test_task_is_made_on_the_bridges_loop_whatever_the_function_is_called(shell, spelled):
    shell.names["make"] = asyncio.create_task  # by an earlier cell
    shell.run(
        f"""
        import asyncio as aio
        from asyncio import create_task, create_task as spawn
        task = {spelled}(asyncio.sleep(0, "done"), name="mine")
        """
    )
    assert shell.names["task"].get_loop() is default_bridge().loop
    assert shell.names["task"].get_name() == "mine"
    assert shell.run("await task") == "done"


def test_task_is_made_on_our_loop_though_another_runs_in_the_shells_thread(shell):
    async def kernel():
        shell.cell.begins()
        shell.run("task = asyncio.create_task(asyncio.sleep(0, 1)); x = await task")

    asyncio.run(kernel())
    assert shell.names["task"].get_loop() is default_bridge().loop


def test_as_completed_makes_its_tasks_on_our_loop(shell):
    async def kernel():
        shell.cell.begins()
        shell.run(
            """
            done = []
            for each in asyncio.as_completed([asyncio.sleep(0.05, 2), asyncio.sleep(0, 1)], timeout=9):
                done.append(await each)
            """
        )

    asyncio.run(kernel())
    assert shell.names["done"] == [1, 2]


def test_functions_are_what_they_are_on_a_loop_that_the_user_runs(shell):
    shell.run(
        """
        async def main():
            task = asyncio.create_task(asyncio.sleep(0, 1))
            return task.get_loop() is asyncio.get_running_loop(), await task
        result = asyncio.run(main())
        """
    )
    assert shell.names["result"] == (True, 1)


def test_call_of_another_function_is_that_call(shell):
    def gather(*arguments):
        return arguments, traceback.extract_stack()[-2].filename

    shell.names["gather"] = gather
    assert shell.run("gather(1, 2)") == ((1, 2), "<the cell>")


def test_error_of_a_wrong_call_is_the_functions_own(shell):
    with pytest.raises(TypeError, match="a coroutine was expected") as caught:
        shell.run("x = asyncio.create_task(5)")
    assert {frame.filename for frame in traceback.extract_tb(caught.tb)} <= {__file__, "<the cell>", *_asyncio_files()}


def _asyncio_files():
    from asyncio import tasks

    return {tasks.__file__}


# --- what is shown


def test_shown_task_that_was_just_made_is_left_in_the_background(shell):
    task = shell.run("asyncio.create_task(asyncio.sleep(0, 1))")
    assert isinstance(task, asyncio.Task)
    shell.names["task"] = task
    assert shell.run("task") == 1


def test_awaited_value_is_shown_as_it_is(shell):
    assert shell.run("await asyncio.sleep(0, (c := asyncio.sleep(0)))") is shell.names["c"]
    shell.names["c"].close()


def test_every_expression_is_blocked_on_where_all_are_shown(shell):
    shell.shows = "all"
    tree = shell.transformer.visit(ast.parse("x\ny = 1\nz"))
    assert ast.unparse(tree).count(".show(") == 2


def test_nothing_is_blocked_on_where_nothing_is_shown(shell):
    shell.shows = "none"
    shell.run("x = 1\nasyncio.sleep")
    assert ".show(" not in ast.unparse(shell.transformer.visit(ast.parse("x")))


def test_result_is_shown_as_it_is_when_the_shell_does_not_block(shell):
    shell.blocks = False
    coroutine = shell.run("asyncio.sleep(0)")
    assert is_blocked_on(coroutine)
    coroutine.close()


def test_shown_error_is_the_cells(shell):
    with pytest.raises(LookupError) as caught:
        shell.run(
            """
            async def bad():
                raise LookupError
            bad()
            """
        )
    shown = [(frame.name, frame.lineno) for frame in traceback.extract_tb(caught.tb) if frame.filename == "<the cell>"]
    assert shown == [("<module>", 4), ("bad", 3)]


def test_coroutine_that_was_awaited_before_is_said_to_be(shell):
    shell.run("c = asyncio.sleep(0)\nawait c")
    with pytest.raises(BridgeError, match="has already been awaited"):
        shell.run("c")


# --- tracebacks


@pytest.mark.parametrize(
    ("source", "frames"),
    [
        ("x = 1\nawait bad()", [("<module>", 2), ("bad", 100)]),
        ("await (1 / 0)", [("<module>", 1)]),
        ("await asyncio.sleep(\n    0,\n    1 / 0)", [("<module>", 1), ("<lambda>", 3)]),
        ("async with asyncio.timeout(9):\n    pass\n    await bad()", [("<module>", 1), (ASYNC_PART, 3), ("bad", 100)]),
        ("await asyncio.sleep(0, await bad())", [("<module>", 1), ("bad", 100)]),
    ],
)
def test_traceback_has_the_cells_lines_and_none_of_ours(shell, source, frames):
    bad = "\n" * 98 + "async def bad():\n    1 / 0"
    exec(compile(bad, "<bad>", "exec"), shell.names)
    with pytest.raises(ZeroDivisionError) as caught:
        shell.run(source)
    shown = traceback.extract_tb(caught.tb)
    assert [(each.name, each.lineno) for each in shown if each.filename.startswith("<")] == frames
    assert not [each for each in shown if "bridge" in each.filename and "tests" not in each.filename]


# --- Ctrl-C


@pytest.mark.parametrize("source", ["await asyncio.sleep(0)", "async with asyncio.timeout(9):\n    await x\n"])
def test_ctrl_c_before_the_call_is_posted_leaves_no_coroutine_that_was_never_awaited(shell, monkeypatch, source):
    class Interrupted:
        name = "interrupted"

        def unavailable(self):
            return None

        def waiter(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(default_bridge(), "strategy", Interrupted())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            shell.run(source)
        gc.collect()
    assert [str(each.message) for each in warned] == []


@isolated
def test_what_computes_on_the_loop_is_stopped() -> None:
    import itertools
    import signal
    import threading
    import traceback

    from bridge import block_on, default_bridge
    from bridge.ext._cell import wait_for_cell

    computes = threading.Event()
    ended = threading.Event()

    async def compute() -> None:
        try:
            for _ in itertools.count():
                computes.set()
        finally:
            ended.set()

    def interrupt_twice() -> None:
        computes.wait()
        for _ in range(2):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            ended.wait(0.2)

    threading.Thread(target=interrupt_twice).start()
    loop = default_bridge().loop
    try:
        wait_for_cell(compute, __file__)
    except KeyboardInterrupt as error:
        shown = traceback.format_exception(error)
    else:
        raise AssertionError("it went on")
    assert any("in compute" in line for line in shown)
    assert sum("KeyboardInterrupt" in line for line in shown) == 1
    assert ended.wait(5)
    assert block_on(lambda: 42) == 42
    assert default_bridge().loop is loop  # which has not died of it
