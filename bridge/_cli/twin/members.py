"""What a class has, of itself and of those of its bases that get no twin, each with its tree and its object."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from ..._views.detect import class_of
from ..._views.signatures import signature_of
from .context import Context, Variable, type_arguments, variables_of
from .source import Function, Module, Scope, decorators, module_of, type_parameters
from .types import Types


@dataclass
class Member:
    """An attribute, a method or a property of a class; or a function of a module.

    ``kind`` is "attribute", "constant", "property", "classmethod", "staticmethod", "method" or "function".
    """

    name: str
    kind: str
    value: Any
    context: Context
    node: Function | None = None
    overloads: list[Function] = field(default_factory=list[Function])
    annotation: ast.expr | None = None
    settable: bool = False


def function_of(name: str, function: Any) -> Member:
    """Return a function of a module as a member."""
    inner: Any = _innermost(function)
    module = module_of(inner.__module__)
    node, overloads = _nodes(module, inner)
    return Member(name, "function", function, Context(Scope(module)), node or _made(name, inner), overloads)


def members(cls: type[Any], context: Context, types_: Types, inherited: set[type[Any]]) -> Iterator[Member]:
    """Yield what instances of a class have, attributes first, without what twins of its bases have.

    :param inherited: classes whose members come by inheritance, but for what makes instances and so names its class.
    """
    seen: set[str] = set()
    parts = [each for each in parents(cls, context, types_).items() if each[0] is not object]
    found: list[Member] = []
    for owner, at in parts:
        if owner in (Generic, Protocol):
            continue
        for member in (*_attributes(owner, at), *_functions(owner, at)):
            again = member.name == "__init__" or member.kind == "classmethod"
            if member.name not in seen and (again or owner not in inherited):
                seen.add(member.name)
                found.append(member)
        seen |= {name for name, each in vars(owner).items() if name != "__init__" and not isinstance(each, classmethod)}
    yield from (each for each in found if each.kind in ("attribute", "constant"))
    yield from (each for each in found if each.kind not in ("attribute", "constant"))


def parents(cls: type[Any], context: Context, types_: Types) -> dict[type[Any], Context]:
    """Return the classes that a class inherits from, itself first, each with what its type variables stand for."""
    found = {cls: context}
    todo = [cls]
    while todo:
        each = todo.pop(0)
        for base, at in bases(each, found[each], types_):
            if base not in found:
                found[base] = at
                todo.append(base)
    anywhere = {each: _context_in(each, {}, context) for each in cls.__mro__ if each not in found}
    return {each: found.get(each) or anywhere[each] for each in cls.__mro__}


def bases(cls: type[Any], context: Context, types_: Types) -> Iterator[tuple[type[Any], Context]]:
    """Yield the bases that the class statement names, each with what its type variables stand for."""
    node = module_of(cls.__module__).classes.get(cls.__qualname__)
    for written in node.bases if node is not None else ():
        expression: ast.expr = written
        items = type_arguments(expression)
        expression = expression.value if isinstance(expression, ast.Subscript) else expression
        target = types_.find(expression, context)
        base = getattr(target.value, "__origin__", target.value) if target is not None else None
        if isinstance(base, type):
            parameters = getattr(base, "__parameters__", ())
            yield base, _context_in(base, variables_of(parameters, items, context), context)


def _context_in(cls: type[Any], variables: dict[int | str, Variable], context: Context) -> Context:
    module = module_of(cls.__module__)
    local = type_parameters(module.classes.get(cls.__qualname__))
    return context.other(scope=Scope(module, local, cls), variables=variables)


def own_context(cls: type[Any], context: Context) -> Context:
    """Return the context of a class's own body, in which its type variables stand for themselves."""
    return _context_in(cls, {}, context)


# Attributes.


def _attributes(cls: type[Any], context: Context) -> Iterator[Member]:
    module = module_of(cls.__module__)
    node = module.classes.get(cls.__qualname__)
    if node is None:
        yield from _described(cls, context, set())
        return
    annotated = [(each.target, each.annotation) for each in node.body if isinstance(each, ast.AnnAssign)]
    for target, annotation in annotated:
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            constant = ast.unparse(annotation).rpartition(".")[2].startswith(("ClassVar", "Final"))
            constant = constant or ast.unparse(annotation).startswith(("ClassVar", "Final", "typing.ClassVar"))
            kind = "constant" if constant else "attribute"
            yield Member(target.id, kind, None, context, annotation=annotation, settable=not constant)
    named = {each.id for each, _ in annotated if isinstance(each, ast.Name)}
    for assigned in node.body:
        if isinstance(assigned, ast.Assign):
            for each in assigned.targets:
                if isinstance(each, ast.Name) and not each.id.startswith("_") and each.id not in named:
                    value: Any = vars(cls).get(each.id)
                    if not callable(value) and not hasattr(class_of(value), "__get__"):
                        yield Member(each.id, "constant", value, context)
    own: dict[str, Any] = dict(vars(cls))
    properties = {name for name, value in own.items() if hasattr(class_of(value), "__set__")}
    for name, said in _assigned(module.functions.get(f"{cls.__qualname__}.__init__", [])):
        if not name.startswith("_") and name not in named and (name not in properties or name in _slots(cls)):
            named.add(name)
            yield Member(name, "attribute", None, context, annotation=said, settable=True)
    yield from _described(cls, context, named)


def _described(cls: type[Any], context: Context, named: set[str]) -> Iterator[Member]:
    """Yield the attributes that have a descriptor of another kind than ``property``: of slots, or of the library's."""
    own: dict[str, Any] = dict(vars(cls))
    for name, value in own.items():
        if name.startswith("_") or name in named or callable(value):
            continue
        if isinstance(value, property | functools.cached_property | classmethod | staticmethod):
            continue
        if hasattr(class_of(value), "__get__"):
            yield Member(name, "attribute", None, context, settable=hasattr(class_of(value), "__set__"))


def _slots(cls: type[Any]) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _assigned(functions: list[Function]) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the attributes that ``__init__`` assigns, with their types where they are said."""
    found: dict[str, ast.expr | None] = {}
    for function in functions:
        if "overload" in decorators(function):
            continue
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        known = {each.arg: each.annotation for each in arguments}
        own = arguments[0].arg if arguments else "self"
        for node in ast.walk(function):
            if isinstance(node, ast.AnnAssign) and (name := _of(node.target, own)):
                found[name] = node.annotation
            elif isinstance(node, ast.Assign):
                for name in filter(None, (_of(each, own) for each in node.targets)):
                    given = node.value
                    said = known.get(given.id) if isinstance(given, ast.Name) else _literal(given)
                    found[name] = found.get(name) or said
    yield from found.items()


def _of(node: ast.expr, own: str) -> str:
    attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == own
    return node.attr if attribute else ""  # type: ignore[attr-defined]


def _literal(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Constant) and node.value is not None:
        return ast.Name(type(node.value).__name__)
    if isinstance(node, ast.JoinedStr):
        return ast.Name("str")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id[:1].isupper():
        return node.func
    return None


# Functions.


def _functions(cls: type[Any], context: Context) -> Iterator[Member]:
    module = module_of(cls.__module__)
    own: dict[str, Any] = dict(vars(cls))
    for name, value in own.items():
        if name.startswith("_") and not (name.startswith("__") and name.endswith("__")):
            continue
        function: Any = value
        kind = "method"
        if class_of(value) in (classmethod, staticmethod):
            kind, function = class_of(value).__name__, value.__func__
        elif isinstance(value, property):
            kind, function = "property", value.fget
        elif class_of(value) is functools.cached_property:
            kind, function = "property", value.func
        elif isinstance(value, type) or not (callable(value) or hasattr(value, "__wrapped__")):
            continue
        inner = _innermost(function)
        node, overloads = _nodes(module if inner is None else module_of(inner.__module__ or cls.__module__), inner)
        settable = isinstance(value, property) and value.fset is not None
        scope = context.scope
        if isinstance(inner, types.FunctionType) and inner.__module__ != scope.module.name:
            scope = Scope(module_of(inner.__module__), scope.local, cls)
        at = context.other(scope=scope)
        yield Member(name, kind, value, at, node or _made(name, function), overloads, settable=settable)


def _innermost(function: Any) -> Any:
    try:
        return inspect.unwrap(getattr(function, "func", function))
    except ValueError:
        return function


def _nodes(module: Module, function: Any) -> tuple[Function | None, list[Function]]:
    """Return the def of a function, the one for type checkers if there are two, and its overloads."""
    found = module.functions.get(getattr(function, "__qualname__", ""), [])
    overloads = [each for each in found if "overload" in decorators(each)]
    others = [each for each in found if each not in overloads]
    if not others:
        return None, overloads
    if id(others[0]) in module.for_checkers:
        return others[0], overloads
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", 0)
    for each in others:
        if line in (each.lineno, *(decorator.lineno for decorator in each.decorator_list)):
            return each, overloads
    return others[-1], overloads


def _made(name: str, function: Any) -> Function | None:
    """Return a def for a function that has no source, out of its signature; None if it has none either."""
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):
        return None
    parameters: list[inspect.Parameter] = []
    for each in signature.parameters.values():
        default = each.default
        if default is not each.empty:
            default = default if isinstance(default, int | str | float | bytes | None) else _Shown("not_written")
        annotation = _shown(each.annotation)
        parameters.append(each.replace(default=default, annotation=each.empty))
        if annotation:
            parameters[-1] = parameters[-1].replace(annotation=_Shown(annotation))
    returns = _shown(signature.return_annotation)
    shown = inspect.Signature(parameters, return_annotation=_Shown(returns) if returns else inspect.Signature.empty)
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    try:
        node = ast.parse(f"{prefix}def {name}{shown}: ...").body[0]
    except SyntaxError:
        return None
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return node


class _Shown:
    """An annotation that a signature shows as the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        builtin = annotation.__module__ == "builtins"
        return annotation.__qualname__ if builtin else f"{annotation.__module__}.{annotation.__qualname__}"
    return repr(annotation).replace("~", "").replace("NoneType", "None")
