"""The message of a WrongThreadError: it shows the user's own call, and what to write instead.

The call is found from the frames. The innermost frame that is neither Twisted's, nor ours, nor in an installed library
is the user's. The position of its current instruction is the position of the call in the source. If there is no source,
as for code given to ``exec``, the message names the function that was called.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

import twisted

from .._errors import WrongThreadError
from .runners import Runner, find_runner, proposed

_HERE = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(twisted.__file__)) + os.sep,
)
_STANDARD = (*{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}, "<frozen ")
_INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})
# Methods that end the loop, and with it every call. So a call of one cannot be waited for.
_ENDS = frozenset({"stop", "crash"})
# Longer calls are shown without their arguments.
_LONGEST = 100


class Target(NamedTuple):
    """The reactor that was used in the wrong thread, and how other threads reach its loop."""

    reactor: Any
    method: str  # the reactor's method that was called
    owner: Any  # the bridge that runs its loop; None if the program runs it
    thread: str  # the name of the thread in which the loop runs
    is_installed: bool
    is_another: bool  # the calling thread runs the loop of a reactor of its own


class _Call(NamedTuple):
    """A call in the user's code."""

    file: str
    line: int
    node: ast.Call | None  # None without source
    argument: ast.expr | None  # the expression for block_on's lambda: the call, and any calls chained to its result
    around: ast.Call | None  # the block_on(...) call that has this argument
    callee: str  # the name of the called function, from its definition
    frame: FrameType
    is_reactors: bool  # the user has called a method of the reactor itself
    runner: Runner | None  # the function that is about to run the reactor and has come here


def wrong_thread(target: Target) -> WrongThreadError:
    """Return the error for a use of the reactor by the calling thread, which is not its loop's."""
    try:
        return WrongThreadError(_message(target, _find_call(sys._getframe(1))))
    except Exception:  # the search may fail on unusual source; the user needs this error all the same
        return WrongThreadError(_message(target, None))


def _message(target: Target, call: _Call | None) -> str:
    here = threading.current_thread().name
    if call is None or (call.node is None and call.is_reactors):
        what = f"reactor.{target.method}(...)"
    else:
        what = _shown_call(call.node, call.callee)
    where = "" if call is None else f" ({call.file}, line {call.line})"
    reached = "" if what.startswith(f"reactor.{target.method}") else f"; it came to reactor.{target.method}"
    lines = [
        f"{what} was called in the thread {here!r}{where}, but the reactor's loop runs in the thread "
        f"{target.thread!r}, and a reactor may be used in the thread of its loop only{reached}."
    ]
    if target.is_another:
        lines[0] += " This thread runs the loop of another reactor; pass that one to what is called:"
        lines.append(
            "    Site(resource, reactor=bridge.reactor), Agent(bridge.reactor), treq.get(url, reactor=bridge.reactor)"
        )
        return "\n".join(lines)
    lines[0] += " Write instead:"
    return lines[0] + proposed(_forms(target, call))


def _forms(target: Target, call: _Call | None) -> list[tuple[str, str]]:
    """Return the lines of code that the message proposes, each with a remark."""
    frame = None if call is None else call.frame
    reactor = _name_of(target.reactor, frame) or "reactor"
    if target.owner is None:
        block_on = f"Bridge.attach({reactor}).block_on"
    else:
        name = _name_of(target.owner, frame)
        block_on = f"{name}.block_on" if name else "block_on" if target.is_installed else "bridge.block_on"
    method = f"{reactor}.{target.method}"
    node = None if call is None else call.node
    if (call is None or call.is_reactors) and target.method in _ENDS:
        return [(f"{reactor}.callFromThread({method})", "calls it on the loop's thread soon")]
    if call is not None and call.runner is not None:  # it would run the reactor, had this call not been refused
        return [(f"{block_on}(lambda: {call.runner.called})", f"instead of {call.runner.shown}: {call.runner.remark}")]
    forms: list[tuple[str, str]] = []
    if call is None or node is None:
        called = method if call is None or call.is_reactors else call.callee
        forms.append((f"{block_on}(lambda: {called}(...))", "calls it on the loop's thread and waits for its result"))
        forms.append((f"{reactor}.callFromThread({called}, ...)", "calls it there soon, and does not wait"))
    else:
        if not _cannot_move(call.argument):
            waits = _with_lambda(block_on, call)
            forms.append((waits, "calls it on the loop's thread and waits for its result"))
        if not call.is_reactors and target.owner is not None:
            view = block_on.removesuffix("block_on") + "blocking"
            forms.append((_with_view(node, view), "the same, as a sync view"))
        if not _cannot_move(node):
            posted = ast.Call(_name(f"{reactor}.callFromThread"), [node.func, *node.args], node.keywords)
            forms.append((_source(posted), "calls it there soon, and does not wait"))
    script = _script()
    if target.owner is not None and script is not None:
        forms.append((script, "runs the whole script there, as it stands"))
    return forms


def _with_lambda(block_on: str, call: _Call) -> str:
    assert call.argument is not None
    lambda_ = ast.Lambda(_NO_PARAMETERS, call.argument)
    around = call.around
    if around is None:
        return _source(ast.Call(_name(block_on), [lambda_], []))
    return _source(ast.Call(around.func, [lambda_, *around.args[1:]], around.keywords))


def _with_view(node: ast.Call, blocking: str) -> str:
    if isinstance(node.func, ast.Attribute):
        func: ast.expr = ast.Attribute(ast.Call(_name(blocking), [node.func.value], []), node.func.attr, ast.Load())
    else:
        func = ast.Call(_name(blocking), [node.func], [])
    return _source(ast.Call(func, node.args, node.keywords))


_NO_PARAMETERS = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])


def _name(dotted: str) -> ast.expr:
    return ast.parse(dotted, mode="eval").body


def _source(node: ast.expr) -> str:
    """Return the source of an expression in one line. Arguments of a long call are left out."""
    text = ast.unparse(node)
    if len(text) > _LONGEST:
        text = ast.unparse(_Shortened().visit(ast.parse(text, mode="eval")))
    return text


class _Shortened(ast.NodeTransformer):
    """Leaves out the arguments of calls, except for calls, lambdas, attributes and names."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Shorten one call."""
        self.generic_visit(node)
        kept: list[ast.expr] = [
            each for each in node.args if isinstance(each, ast.Call | ast.Lambda | ast.Attribute | ast.Name)
        ]
        if len(kept) < len(node.args) or node.keywords:
            kept.append(ast.Constant(...))
        return ast.Call(node.func, kept, [])


def _shown_call(node: ast.Call | None, callee: str) -> str:
    return f"{callee}(...)" if node is None else _source(node)


def _cannot_move(node: ast.expr | None) -> bool:
    """Return whether the expression cannot be moved into a lambda; True if there is none."""
    bound = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    return node is None or any(isinstance(each, bound) for each in ast.walk(node))


def _name_of(wanted: object, frame: FrameType | None) -> str | None:
    """Return a public name of the object in the user's frame, or None."""
    if frame is not None and wanted is not None:
        for names in (frame.f_locals, frame.f_globals):
            for name, value in list(names.items()):
                if value is wanted and name.isidentifier() and not name.startswith("_"):
                    return name
    return None


def _script() -> str | None:
    """Return the command that runs the program on the loop's thread; None outside the main thread of a script."""
    main: Any = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file or threading.current_thread() is not threading.main_thread():
        return None
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return f"python -m bridge run -m {spec.name.removesuffix('.__main__')}"
    return f"python -m bridge run {os.path.basename(file)}"


# Finding the call.


def _find_call(frame: FrameType | None) -> _Call | None:
    """Return the user's call that has led to the frame, or None."""
    while frame is not None and frame.f_code.co_filename.startswith(_HERE[0]):
        frame = frame.f_back
    reactors = frame
    caller, callee = _innermost(frame, _is_user_code) or _innermost(frame, _is_outside_code) or (None, None)
    if caller is None:
        return None
    node, argument, around = _parsed(caller)
    module = None if callee is None else callee.f_globals.get("__name__")
    named = "" if callee is None else ".".join(filter(None, (module, callee.f_code.co_qualname)))
    position = caller.f_code.co_filename, caller.f_lineno
    return _Call(*position, node, argument, around, named, caller, caller is reactors, find_runner(reactors))


def _innermost(
    frame: FrameType | None, is_match: Callable[[FrameType], bool]
) -> tuple[FrameType | None, FrameType | None] | None:
    """Return the innermost frame that matches, and the frame that it has called; None without one."""
    inner: FrameType | None = None
    while frame is not None:
        if is_match(frame):
            return frame, inner
        inner, frame = frame, frame.f_back
    return None


def _is_user_code(frame: FrameType) -> bool:
    return _is_outside_code(frame) and not frame.f_code.co_filename.startswith(_INSTALLED)


def _is_outside_code(frame: FrameType) -> bool:
    """Return whether the frame is outside Twisted, this package and the standard library, such as ``threading``."""
    file = frame.f_code.co_filename
    return not file.startswith(_HERE) and (file.startswith(_INSTALLED) or not file.startswith(_STANDARD))


def _parsed(frame: FrameType) -> tuple[ast.Call | None, ast.expr | None, ast.Call | None]:
    """Return the frame's current call, that call with any calls chained to its result, and the block_on around it.

    Each is None if there is none or the source is missing.
    """
    nothing = None, None, None
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    position = _position(frame.f_code, frame.f_lasti)
    if not source or position is None:
        return nothing
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return nothing
    # The call is identified by its end. Its start is not reliable: if the name of a method is on a line of its own,
    # CPython has the call of the method begin there.
    parents: dict[ast.AST, ast.AST] = {}
    found: ast.Call | None = None
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            parents[child] = node
        if isinstance(node, ast.Call) and (node.end_lineno, node.end_col_offset) == position:
            found = node
    if found is None:
        return nothing
    argument: ast.expr = found
    while True:
        parent = parents.get(argument)
        if isinstance(parent, ast.Attribute) or (isinstance(parent, ast.Call) and parent.func is argument):
            argument = parent
        else:
            break
    if isinstance(argument, ast.Attribute):  # an attribute of the result, which is not called
        argument = found
    if isinstance(parent, ast.Call) and parent.args[:1] == [argument] and _is_block_on(parent.func):
        return found, argument, parent
    return found, argument, None


def _position(code: CodeType, lasti: int) -> tuple[int, int] | None:
    """Return the line and column at which the source of an instruction ends."""
    _, line, _, column = next(itertools.islice(code.co_positions(), lasti // 2, None), (None, None, None, None))
    return None if line is None or column is None else (line, column)


def _is_block_on(func: ast.expr) -> bool:
    return (isinstance(func, ast.Name) and func.id == "block_on") or (
        isinstance(func, ast.Attribute) and func.attr == "block_on"
    )
