"""Analyses a cell's own scope: async statements, and the names that are bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def needs_a_task(statement: ast.stmt) -> bool:
    """Return whether the statement has an ``async for`` or ``async with`` in the cell's own scope.

    Return False if it has a ``return`` or ``yield`` too: this is an error, which Python reports.
    """
    nodes = list(_in_scope(statement))
    return any(isinstance(node, (ast.AsyncFor, ast.AsyncWith)) for node in nodes) and not any(
        isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)) for node in nodes
    )


def is_async(comprehension: ast.AST) -> bool:
    """Return whether a list, set or dict comprehension is asynchronous, or has an asynchronous one inside."""
    todo: list[ast.AST] = list(ast.iter_child_nodes(comprehension))
    first: ast.AST = comprehension.generators[0].iter  # type: ignore[attr-defined]
    while todo:
        node = todo.pop()
        if node is first or isinstance(node, ast.Lambda):  # the first iterable is evaluated outside
            continue
        if isinstance(node, ast.Await) or (isinstance(node, ast.comprehension) and node.is_async):
            return True
        todo += [node.generators[0].iter] if isinstance(node, ast.GeneratorExp) else ast.iter_child_nodes(node)
    return False


def _in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and all nodes below it, except those in nested scopes."""
    yield node
    if isinstance(node, _SCOPES):
        return
    for child in ast.iter_child_nodes(node):
        yield from _in_scope(child)


def names_bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds or deletes in its scope."""
    targets = {
        id(name)
        for node in _in_scope(statement)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
    }
    for node in _in_scope(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if id(node) not in targets:
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (each.asname or each.name.partition(".")[0] for each in aliases if each.name != "*")
            case _:
                pass


def imported_as(module: ast.Module, names: frozenset[str]) -> frozenset[str]:
    """Return the aliases under which a cell imports these functions of asyncio."""
    return frozenset(
        alias.asname
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "asyncio"
        for alias in node.names
        if alias.asname and alias.name in names
    )
