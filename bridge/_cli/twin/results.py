"""Decide what a function's twin returns: what is awaited, iterated, entered, or returned as it is."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from . import heads
from .context import Context, Mode, Typed, Variable, type_arguments, variables_of
from .members import Member, own_context, parents
from .names import parsed
from .source import Function, decorators, is_generator, module_of, returned, type_parameters
from .types import Types

Arm = tuple[ast.expr, Context]


@dataclass(frozen=True)
class Result:
    """What a function's twin returns.

    :param kind: "awaited", "iterated", "entered" or "plain".
    :param typed: the type of the result; of an item where it is iterated, of the value where it is entered.
    :param cast: the result's type in the library, where type checkers need to be told that it is awaited.
    :param generator: an async generator function, which may be called in any thread.
    :param is_async: the plain result has an async protocol, so a view would wait for it or wrap it.
    """

    kind: str
    typed: Typed
    cast: str | None = None
    generator: bool = False
    is_async: bool = False


class Results:
    """Decides for the functions of one file."""

    def __init__(self, types: Types) -> None:
        self._types = types

    def of(self, member: Member, node: Function | None, context: Context) -> Result:
        """Return what a function's twin returns, by the def that is given: the function's own, or an overload's."""
        if node is None:
            return Result("plain", self._unknown("what it returns"))
        names = decorators(node)
        annotation = node.returns
        if "asynccontextmanager" in names:
            return Result("entered", self._item(annotation, context))
        if "contextmanager" in names:
            manager = self._types.names.of("contextlib", "AbstractContextManager")
            return Result("plain", Typed(f"{manager}[{self._item(annotation, context).text}]"))
        if "inlineCallbacks" in names:
            return self._of_inline_callbacks(annotation, context)
        if isinstance(node, ast.AsyncFunctionDef):
            if is_generator(node):
                return Result("iterated", self._item(annotation, context), generator=True)
            if annotation is None:
                return Result("awaited", self._guessed(node, context))
            return Result("awaited", self._own(node, context) or self._types.convert(annotation, context))
        if annotation is None:
            return Result("plain", self._guessed(node, context))
        own = self._own(node, context)
        return self._of_def(annotation, context) if own is None else Result("plain", own)

    def _item(self, annotation: ast.expr | None, context: Context) -> Typed:
        """Return the type of the items of an async generator, of which the annotation says ``AsyncIterator[...]``."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.Subscript):
            items = type_arguments(annotation)
            return self._types.convert(items[0], context)
        if annotation is not None and (target := self._types.find(annotation, context)) is not None:
            alias = self._types.alias(target, [], context)
            if alias is not None:
                return self._item(*alias)
        return self._unknown("what it yields")

    def _of_inline_callbacks(self, annotation: ast.expr | None, context: Context) -> Result:
        if isinstance(annotation, ast.Subscript):
            items = type_arguments(annotation)
            return Result("awaited", self._types.convert(items[-1], context))
        return Result("awaited", self._unknown("what it returns"))

    def _own(self, node: Function, context: Context) -> Typed | None:
        """Return the type ``Self`` for a method that returns nothing but itself, though it names its class."""
        own = node.args.args[0].arg if node.args.args else None
        found = [isinstance(each, ast.Name) and each.id == own for each in returned(node)]
        if context.own != "self" or not found or not all(found) or node.returns is None:
            return None
        cls = self._class_of(node.returns, context)
        if not isinstance(cls, type) or cls is not context.scope.cls:
            return None
        return self._types.convert(ast.parse("typing.Self", mode="eval").body, context)

    def _guessed(self, node: Function, context: Context) -> Typed:
        """Return the type of a result without an annotation: itself, None or a call of a class, else Any."""
        found = [ast.unparse(each) if each is not None else "None" for each in returned(node)]
        own = node.args.args[0].arg if node.args.args else None
        if found and all(each == own for each in found) and context.own == "self":
            return self._types.convert(ast.parse("typing.Self", mode="eval").body, context)
        values = [each for each in returned(node) if each is not None]
        if len(found) == len(values) == 1 and isinstance(values[0], ast.Call):
            target = self._types.find(values[0].func, context)
            if target is not None and isinstance(target.value, type):
                typed = self._types.of(target, [], context)
                if typed.convert is not None:
                    return typed
        return self._unknown("what it returns")

    def _of_def(self, annotation: ast.expr, context: Context) -> Result:
        arms = self._types.arms(annotation, context)
        awaited = [self._awaited(*arm) for arm in arms]
        if any(each is not None for each in awaited):
            results = [inner or arm for inner, arm in zip(awaited, arms, strict=True)]
            typed = self._types.union(results)
            kept = self._types.union([(node, at.other(mode=Mode.KEEP)) for node, at in results]).text
            cast = kept if len(arms) > 1 or not self._is_awaitable_type(*arms[0]) else None
            return Result("awaited", typed, cast)
        if len(arms) == 1:
            node, at = arms[0]
            if isinstance(node, ast.Subscript) and (target := self._types.find(node.value, at)) is not None:
                items = type_arguments(node)
                if heads.is_iterated(target.value):
                    return Result("iterated", self._types.convert(items[0], at))
                if heads.is_entered(target.value):
                    return Result("entered", self._types.convert(items[0], at))
        typed = self._types.convert(annotation, context)
        return Result("plain", typed, is_async=any(self._has_protocol(*arm) for arm in arms))

    def _awaited(self, node: ast.expr, context: Context) -> Arm | None:
        """Return what awaiting a value of the type returns; None if it is nothing to await."""
        head, items = (node.value if isinstance(node, ast.Subscript) else node), type_arguments(node)
        target = self._types.find(head, context)
        if target is None:
            return None
        at = heads.awaited_at(target.value)
        if at is not None:
            inner = items[at] if at < len(items) else ast.parse("typing.Any", mode="eval").body
            return inner, context
        cls = heads.origin(target.value)
        if not isinstance(cls, type) or not hasattr(cls, "__await__"):
            return None
        return self.awaited_by(cls, items, context)

    def awaited_by(self, cls: type[Any], items: list[ast.expr], context: Context) -> Arm | None:
        """Return what awaiting an instance returns; None if that is the instance, or it serves ``async with`` better.

        A request of aiohttp's, for one, may be awaited or entered, and so may the response that it returns.
        """
        at = own_context(cls, context)
        at = at.other(variables=variables_of(getattr(cls, "__parameters__", ()), items, context), own="")
        for owner, inside in parents(cls, at, self._types).items():
            for node in module_of(owner.__module__).functions.get(f"{owner.__qualname__}.__await__", []):
                if not isinstance(node.returns, ast.Subscript):
                    return None
                parts = type_arguments(node.returns)
                target = self._types.find(parts[-1], inside)
                value = None if target is None else target.value
                if heads.form(value) == "Self" or value is cls:
                    return None
                result = self._class_of(parts[-1], inside)
                if hasattr(cls, "__aenter__") and not hasattr(result, "__aenter__"):
                    return None
                return parts[-1], inside
        return None

    def _class_of(self, node: ast.expr, context: Context) -> Any:
        """Return the class that an annotation names, through the type variables of the context."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = parsed(node.value)
        if isinstance(node, ast.Subscript):
            node = node.value
        target = self._types.find(node, context)
        value = None if target is None else target.value
        known = context.variables.get(id(value))
        return self._class_of(known.node, known.context) if known is not None else heads.origin(value)

    def _is_awaitable_type(self, node: ast.expr, context: Context) -> bool:
        head = node.value if isinstance(node, ast.Subscript) else node
        target = self._types.find(head, context)
        return target is not None and not heads.qualified(target.value).startswith("concurrent.")

    def _has_protocol(self, node: ast.expr, context: Context) -> bool:
        cls = self._class_of(node, context)
        names = ("__await__", "__aenter__", "__anext__")
        return isinstance(cls, type) and any(hasattr(cls, name) for name in names)

    def _unknown(self, what: str) -> Typed:
        if what not in self._types.unknown:
            self._types.unknown.append(what)
        return Typed(self._types.names.of("typing", "Any"), lambda code: f"_any({code})")

    def inside(self, node: Function | None, context: Context) -> Context:
        """Return the context inside a function: with its type parameters, and ``Self`` for the type of ``self``."""
        context = context.other(scope=context.scope.with_local(type_parameters(node)))
        first = [*node.args.posonlyargs, *node.args.args][:1] if node is not None and context.own else []
        said = first[0].annotation if first else None
        said = type_arguments(said)[0] if isinstance(said, ast.Subscript) else said
        target = None if said is None else self._types.find(said, context)
        if target is None or not heads.is_type_variable(target.value):
            return context
        own = Variable(ast.parse("typing.Self", mode="eval").body, context)
        return context.other(variables={**context.variables, id(target.value): own})
