"""Find a call in the user's source, and write it anew, for a message of an error.

The position of a frame's current instruction is the position of the call in the source. Without source, as for code
given to ``exec``, nothing is found.
"""

from __future__ import annotations

import ast
import itertools
import linecache
from collections.abc import Collection, Mapping
from types import CodeType, FrameType
from typing import NamedTuple

# Longer calls are shown without their arguments.
_LONGEST = 100
# The functions whose first argument is the work.
_TAKE_WORK = frozenset({"block_on", "submit", "call"})


class UserCall(NamedTuple):
    """A call in the user's source, with what stands around it: each expression contains the one before."""

    node: ast.Call
    chained: ast.expr  # the call with the calls chained to its result
    around: ast.Call | None  # the block_on(...) call that has this argument
    whole: ast.expr  # that call, or else ``chained``, with the calls and attributes chained to its result


def user_call(frame: FrameType) -> UserCall | None:
    """Return the call that a frame is at; None if there is none, or no source."""
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    position = _position(frame.f_code, frame.f_lasti)
    if not source or position is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
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
        return None
    chained = _chained(found, parents)
    parent = parents.get(chained)
    if isinstance(parent, ast.Call) and parent.args[:1] == [chained] and _is_named(parent.func, ("block_on",)):
        return UserCall(found, chained, parent, _chained(parent, parents))
    return UserCall(found, chained, None, chained)


def _chained(call: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> ast.expr:
    """Return a call with all attributes of its result, and calls of these, that follow it."""
    while True:
        parent = parents.get(call)
        if isinstance(parent, ast.Attribute) or (isinstance(parent, ast.Call) and parent.func is call):
            call = parent
        else:
            return call


def rechained(whole: ast.expr, old: ast.expr, new: ast.expr) -> ast.expr:
    """Return a chain of attributes and calls with a new expression at its beginning, in place of ``old``."""
    if isinstance(whole, ast.Attribute) and whole is not old:
        return ast.Attribute(rechained(whole.value, old, new), whole.attr, ast.Load())
    if isinstance(whole, ast.Call) and whole is not old:
        return ast.Call(rechained(whole.func, old, new), whole.args, whole.keywords)
    return new


def _position(code: CodeType, lasti: int) -> tuple[int, int] | None:
    """Return the line and column at which the source of an instruction ends."""
    _, line, _, column = next(itertools.islice(code.co_positions(), lasti // 2, None), (None, None, None, None))
    return None if line is None or column is None else (line, column)


def _is_named(func: ast.expr, names: Collection[str]) -> bool:
    called = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else None
    return called in names


def in_lambda(argument: ast.expr, around: ast.Call | None, block_on: str = "block_on") -> ast.expr:
    """Return a call that waits for an expression, which is evaluated on the loop's thread.

    :param around: the call of ``block_on`` in the user's source, whose first argument is replaced; None for a new one.
    :param block_on: its function.
    """
    lambda_ = ast.Lambda(_NO_PARAMETERS, argument)
    if around is None:
        return ast.Call(expression(block_on), [lambda_], [])
    return ast.Call(around.func, [lambda_, *around.args[1:]], around.keywords)


def moved_to_the_loop(frame: FrameType | None) -> str | None:
    """Return the call of ``block_on`` that a frame is at, with its argument in a lambda.

    None if the frame is at another call, or if its argument is no call, or cannot be moved.
    """
    try:
        call = None if frame is None else user_call(frame)
    except Exception:  # the search may fail on unusual source
        return None
    if call is None or not call.node.args or not _is_named(call.node.func, _TAKE_WORK):
        return None
    argument = call.node.args[0]
    if not isinstance(argument, ast.Call) or cannot_move(argument):
        return None
    return source_of(in_lambda(argument, call.node))


_NO_PARAMETERS = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])


def expression(dotted: str) -> ast.expr:
    """Return the expression of a dotted name."""
    return ast.parse(dotted, mode="eval").body


def source_of(node: ast.expr) -> str:
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


def cannot_move(node: ast.expr) -> bool:
    """Return whether the expression cannot be moved into a lambda."""
    bound = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    return any(isinstance(each, bound) for each in ast.walk(node))
