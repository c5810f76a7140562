"""The lines of code that a WrongThreadError proposes: the user's own expression in the forms that work where it stands.

In a cell of IPython, or of a notebook, these are other forms than in a script, and in a test other ones again.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
import threading
from types import FrameType
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from .._values.source import UserCall, cannot_move, expression, in_lambda, rechained, source_of
from .runners import Runner

# Methods that end the loop, and with it every call. So a call of one cannot be waited for.
_ENDS = frozenset({"stop", "crash"})
# The arguments of block_on that blocking() takes as well.
_OF_VIEWS = frozenset({"timeout", "strategy"})

_OUR_MAGICS = f"{__name__.partition('.')[0]}.ext._magics"

_WAITS = "calls it on the loop's thread and waits for its result"
Form = tuple[str, str]  # the code, and a remark


class Target(NamedTuple):
    """The reactor that was used in the wrong thread, and how other threads reach its loop."""

    reactor: Any
    method: str  # the reactor's method that was called
    owner: Any  # the bridge that runs its loop; None if the program runs it
    thread: str | None  # the name of the thread in which the loop runs; None if it does not run
    is_installed: bool
    is_another: bool  # the calling thread runs the loop of a reactor of its own


class Call(NamedTuple):
    """A call in the user's code."""

    frame: FrameType
    callee: str  # the name of the called function, from its definition
    is_reactors: bool  # the user has called a method of the reactor itself
    source: UserCall | None  # None without source
    runner: Runner | None  # the function that is about to run the reactor and has come here


def forms(target: Target, call: Call | None) -> list[Form]:
    """Return the lines of code that the message proposes, each with a remark."""
    frame = None if call is None else call.frame
    reactor = _name_of(target.reactor, frame) or "reactor"
    if target.owner is None:
        block_on = f"Bridge.attach({reactor}).block_on"
    else:
        name = _name_of(target.owner, frame)
        block_on = f"{name}.block_on" if name else "block_on" if target.is_installed else "bridge.block_on"
    method = f"{reactor}.{target.method}"
    is_reactors = call is None or call.is_reactors
    if is_reactors and target.method in _ENDS:
        return [(f"{reactor}.callFromThread({method})", "calls it on the loop's thread soon")]
    if call is not None and call.runner is not None:  # it would run the reactor, had this call not been refused
        return [(f"{block_on}(lambda: {call.runner.called})", f"instead of {call.runner.shown}: {call.runner.remark}")]
    shell = shell_of(frame) if target.is_installed and target.owner is not None else None
    if call is None or call.source is None:
        called = method if call is None or is_reactors else call.callee
        found = [
            (f"{block_on}(lambda: {called}(...))", _WAITS),
            (f"{reactor}.callFromThread({called}, ...)", "calls it there soon, and does not wait"),
        ]
        return found + (_in_script(target) if shell is None else _in_cell(shell))
    source = call.source
    view = "" if is_reactors or target.owner is None else block_on.removesuffix("block_on") + "blocking"
    waiting = _waiting(source, block_on, view)
    if shell is not None:
        return _awaiting(source, is_reactors, frame, shell) + waiting + _in_cell(shell)
    return waiting + _posting(source, reactor) + _in_script(target)


def _waiting(source: UserCall, block_on: str, blocking: str) -> list[Form]:
    """Return the forms that wait for the result: in a lambda, and as a sync view.

    A Deferred's methods that are called on the result go into the lambda, and a view, which returns no Deferred, cannot
    have them. Other methods are those of the value, and may be asynchronous as well: a view waits for each.

    :param blocking: the function that makes views; empty for none.
    """
    node, chained, around, whole = source
    first = chained if around is None else around
    keywords = [] if around is None else around.keywords
    is_viewed = blocking and (around is None or len(around.args) == 1) and {each.arg for each in keywords} <= _OF_VIEWS
    is_viewed = is_viewed and (chained is node or not _is_of_deferred(source))
    goes_on = _calls_in(chained, node) or _calls_in(whole, first)
    found: list[Form] = []
    if not cannot_move(chained) and not (goes_on and is_viewed):
        found.append((source_of(rechained(whole, first, in_lambda(chained, around, block_on))), _WAITS))
    if is_viewed:
        wrap = [ast.keyword("wrap", ast.Constant(True))] if goes_on else []
        viewed = rechained(chained, node, _with_view(node, blocking, [*keywords, *wrap]))
        remark = "waits for each call, as a sync view" if goes_on else "the same, as a sync view"
        found.append((source_of(rechained(whole, first, viewed)), remark))
    return found


def _is_of_deferred(source: UserCall) -> bool:
    """Return whether what follows the call is a method of a Deferred."""
    each, attribute = source.chained, ""
    while each is not source.node:
        if isinstance(each, ast.Attribute):
            attribute, each = each.attr, each.value
        else:
            assert isinstance(each, ast.Call)
            each = each.func
    return hasattr(Deferred, attribute)


def _calls_in(whole: ast.expr, first: ast.expr) -> bool:
    """Return whether a chain has a call after its first expression."""
    while isinstance(whole, ast.Attribute) and whole is not first:
        whole = whole.value
    return whole is not first


def _with_view(node: ast.Call, blocking: str, keywords: list[ast.keyword]) -> ast.Call:
    if isinstance(node.func, ast.Attribute):
        view = ast.Call(expression(blocking), [node.func.value], keywords)
        return ast.Call(ast.Attribute(view, node.func.attr, ast.Load()), node.args, node.keywords)
    return ast.Call(ast.Call(expression(blocking), [node.func], keywords), node.args, node.keywords)


def _posting(source: UserCall, reactor: str) -> list[Form]:
    node, chained = source.node, source.chained
    if cannot_move(chained):
        return []
    post = expression(f"{reactor}.callFromThread")
    if chained is node:
        posted: ast.expr = ast.Call(post, [node.func, *node.args], node.keywords)
    else:
        posted = in_lambda(chained, ast.Call(post, [chained], []))
    return [(source_of(posted), "calls it there soon, and does not wait")]


def _in_script(target: Target) -> list[Form]:
    """Return the command that runs the program on the loop's thread."""
    script = None if target.owner is None else _script()
    return [] if script is None else [(script, "runs the whole script there, as it stands")]


def _script() -> str | None:
    """Return that command; None outside the main thread of a script."""
    if threading.current_thread() is not threading.main_thread():
        return None
    if "PYTEST_CURRENT_TEST" in os.environ and "pytest" in sys.modules:
        return "python -m bridge run -m pytest"
    main: Any = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return None
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return f"python -m bridge run -m {spec.name.removesuffix('.__main__')}"
    folder, name = os.path.split(file)
    if folder != sysconfig.get_path("scripts"):
        return f"python -m bridge run {name}"
    # A program that was installed: its package may run as a module, as gunicorn and celery do.
    is_module = name in sys.modules and importlib.util.find_spec(f"{name}.__main__") is not None
    return f"python -m bridge run {f'-m {name}' if is_module else file}"


def _name_of(wanted: object, frame: FrameType | None) -> str | None:
    """Return a public name of the object in the user's frame, or None."""
    if frame is not None and wanted is not None:
        for names in (frame.f_locals, frame.f_globals):
            for name, value in list(names.items()):
                if value is wanted and name.isidentifier() and not name.startswith("_"):
                    return name
    return None


# In IPython.


def shell_of(frame: FrameType | None) -> Any:
    """Return the IPython shell whose cell a frame belongs to; None outside of cells."""
    get_shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_shell is None or frame is None else get_shell()
    if shell is None or frame is None:
        return None
    return shell if frame.f_globals is getattr(shell, "user_global_ns", None) else None


def _is_loaded(shell: Any) -> bool:
    """Return whether the shell has our extension: cells with an ``await`` run on the bridge's loop."""
    return getattr(shell.find_cell_magic("loop"), "__module__", None) == _OUR_MAGICS


def _awaiting(source: UserCall, is_reactors: bool, frame: FrameType | None, shell: Any) -> list[Form]:
    """Return the form for the top level of a cell, where the extension has ``await`` run on the loop's thread."""
    node, chained, around, whole = source
    first = chained if around is None else around
    is_top = frame is not None and frame.f_code.co_name.startswith("<") and frame.f_locals is frame.f_globals
    is_awaitable = not is_reactors and (chained is node or _is_of_deferred(source)) and not cannot_move(chained)
    is_bare = around is None or (len(around.args) == 1 and not around.keywords)
    if not is_top or not is_awaitable or not is_bare or _calls_in(whole, first) or not _is_loaded(shell):
        return []
    return [
        (source_of(rechained(whole, first, ast.Await(chained))), "in a cell: all of it runs on the loop's thread"),
    ]


def _in_cell(shell: Any) -> list[Form]:
    if _is_loaded(shell):
        return [("%%loop", "as the first line of the cell: runs the whole cell there")]
    return [("%load_ext bridge", "lets 'await ...' in a cell run there, and cells that begin with %%loop")]
