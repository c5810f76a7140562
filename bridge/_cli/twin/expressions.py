"""Default values, as the twin's file writes them: the library's expressions, with names that are imported."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from .context import Context
from .types import Types


def expression(node: ast.expr, context: Context, types: Types) -> str:
    """Return an expression of the library's; empty if it cannot be written: a name in it is not known outside."""
    try:
        text = ast.unparse(_Renamed(context, types).visit(ast.parse(ast.unparse(node), mode="eval")))
    except LookupError:
        return ""
    return text if _has_quotes(node) else text.replace("'", '"')


def _has_quotes(node: ast.expr) -> bool:
    """Return whether a string in it has quotes, so that its own quotes matter."""
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    shown = [repr(each).removeprefix("b")[1:-1] for each in texts if isinstance(each, str | bytes)]
    return any(mark in each for each in shown for mark in "\"'")


class _Renamed(ast.NodeTransformer):
    def __init__(self, context: Context, types: Types) -> None:
        self._context = context
        self._types = types
        self._own: list[str] = []  # parameters of the lambdas around

    def visit_Name(self, node: ast.Name) -> Any:
        return ast.Name(self._renamed(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        target = self._types.find(node, self._context)
        if target is not None:
            return ast.Name(self._types.names.use(target))
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        own = [each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)]
        self._own += own
        node.body = self.visit(node.body)
        del self._own[len(self._own) - len(own) :]
        return node

    def visit_ListComp(self, node: ast.AST) -> Any:
        raise LookupError("a comprehension, which has names of its own")

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_NamedExpr = visit_ListComp

    def _renamed(self, name: str) -> str:
        if name in self._own:
            return name
        cls = self._context.scope.cls
        if cls is not None and name in vars(cls):  # a default that the class body computes
            return f"{self._types.names.of(cls.__module__, cls.__qualname__)}.{name}"
        target = self._context.scope.module.resolve(name)
        if target is not None:
            return self._types.names.use(target)
        if hasattr(builtins, name):
            return self._types.names.builtin(name)
        raise LookupError(name)
