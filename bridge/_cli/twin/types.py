"""Turn an annotation of the library into the twin's, with the code that converts a value."""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from . import heads
from .context import Code, Context, Mode, Twins, Typed, Variable, type_arguments, variables_of
from .names import Names, parsed
from .source import MISSING, Scope, Target, module_of, type_parameters


@dataclass
class Types:
    """Converts the types of one file."""

    names: Names
    twins: Twins
    unknown: list[str] = field(default_factory=list[str])  # why something has become Any
    loose: bool = False  # Any is in what was converted since this was set to False, maybe behind another name
    examined: dict[tuple[str, str, Mode], bool] = field(
        default_factory=dict[tuple[str, str, Mode], bool]
    )  # aliases: whether the twin's differs

    def convert(self, node: ast.expr, context: Context) -> Typed:
        """Return an annotation as the twin has it."""
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                return self.convert(parsed(node.value), context)
            return Typed("..." if node.value is ... else repr(node.value))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.union([(node, context)])
        if isinstance(node, ast.Subscript):
            found = self.find(node.value, context)
            if found is not None:
                return self.of(found, type_arguments(node), context)
        if isinstance(node, ast.Name | ast.Attribute):
            found = self.find(node, context)
            if found is not None:
                return self.of(found, [], context)
            if isinstance(node, ast.Name):
                return self._without_target(node.id, context)
            return Typed(f"{self.kept(node.value, context)}.{node.attr}")
        if isinstance(node, ast.List | ast.Tuple):
            inner = ", ".join(self.kept(each, context) for each in node.elts)
            return Typed(f"[{inner}]" if isinstance(node, ast.List) else f"({inner})")
        if isinstance(node, ast.Starred):
            return Typed(f"*{self.kept(node.value, context)}")
        return self._any(f"what type {ast.unparse(node)!r} is")

    def kept(self, node: ast.expr, context: Context) -> str:
        """Return an annotation with the library's own types."""
        return self.convert(node, context.other(mode=Mode.KEEP)).text

    def find(self, node: ast.expr, context: Context) -> Target | None:
        """Return what a name, or a name in a module, means; None if that is nothing to import."""
        if isinstance(node, ast.Name):
            if node.id in context.scope.local:
                return None
            found = context.scope.module.resolve(node.id)
            if found is None and hasattr(builtins, node.id):
                return Target("builtins", node.id)
            if found is None and node.id in sys.modules:
                return Target(node.id, "")  # in an annotation that was not written, but made at run time
            return found
        if isinstance(node, ast.Attribute):
            base = self.find(node.value, context)
            if base is not None and isinstance(base.value, ModuleType | type(MISSING)) and not base.name:
                inner = getattr(base.value, node.attr, None)
                if isinstance(inner, ModuleType):
                    return Target(inner.__name__, "", base.typing_only)
                module = base.value.__name__ if isinstance(base.value, ModuleType) else base.module
                return Target(module, node.attr, base.typing_only)
        return None

    def of(self, target: Target, items: list[ast.expr], context: Context) -> Typed:
        """Return the type that a target means, with its type arguments."""
        value = target.value
        special = heads.form(value)
        if special:
            return self._special(special, items, context)
        if heads.is_type_variable(value):
            return self._variable(target, value, context)
        if isinstance(value, type) and (name := self.twins.name_of(value, context.mode)):
            return self._twin(value, name, target, items, context)
        if (alias := self.alias(target, items, context)) is not None and self._matters(target, *alias):
            return self.convert(*alias)
        if context.mode is Mode.RESULT and items and heads.is_iterated(value):
            return self._iterated(items[0], context)
        if context.mode is Mode.RESULT and items and heads.is_entered(value):
            return self._entered(items[0], context)
        kind = heads.container(value) if context.mode is not Mode.KEEP else ""
        head = self._head(target, value)
        if not items:
            self.loose |= self._is_loose(target, value, context)
            return Typed(head + self._missing_arguments(value))
        if kind:
            return self._container(kind, head, items, context)
        return Typed(f"{head}[{', '.join(self.kept(each, context) for each in items)}]")

    def alias(self, target: Target, items: list[ast.expr], context: Context) -> tuple[ast.expr, Context] | None:
        """Return what a type alias stands for, and where that stands; None if the target is no alias."""
        node = module_of(target.module).nodes.get(target.name)
        if node is None and (further := module_of(target.module).names.get(target.name)) is not None:
            return self.alias(further, items, context) if further != target else None
        assigned: Any = getattr(node, "value", None)
        declared = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias")
        if not (declared or isinstance(assigned, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)):
            return None
        value = target.value
        if isinstance(value, type) and value.__qualname__ == target.name and type(node).__name__ != "TypeAlias":
            return None
        parameters = getattr(value, "__type_params__", None) or getattr(value, "__parameters__", ())
        if isinstance(value, str):  # quoted, so Python does not know its variables
            names = [each for each in ast.walk(parsed(value)) if isinstance(each, ast.Name)]
            found = [each for name in names if (each := module_of(target.module).resolve(name.id)) is not None]
            parameters = list(dict.fromkeys(each.value for each in found if heads.is_type_variable(each.value)))
        variables = variables_of(parameters, items, context)
        local = frozenset(name for name in variables if isinstance(name, str)) & type_parameters(node)
        scope = Scope(module_of(target.module), local, context.scope.cls)
        return assigned, context.other(scope=scope, variables=variables)

    def _matters(self, target: Target, node: ast.expr, context: Context) -> bool:
        """Return whether an alias has something in it, or in its arguments, that is another type in the twin."""
        if any(self.convert(each.node, each.context).convert is not None for each in context.variables.values()):
            return True
        key = (target.module, target.name, context.mode)
        if key in self.examined:  # also while it is being examined: an alias may name itself
            return self.examined[key]
        self.examined[key] = False
        trial = Types(Names("", set()), self.twins, examined=self.examined)
        kept = trial.convert(node, context.other(mode=Mode.KEEP, variables={}))
        converted = trial.convert(node, context.other(variables={}))
        named = [self.find(each, context) for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute)]
        self.examined[key] = (
            converted.convert is not None
            or converted.text != kept.text
            or any(each is not None and heads.awaited_at(each.value) is not None for each in named)
        )
        return self.examined[key]

    def _missing_arguments(self, value: Any) -> str:
        """Return ``[Any]`` for a bare ``list``, which strict checkers refuse."""
        number = heads.number_of_arguments(value)
        if not number:
            return ""
        self.loose = True
        anything = self.names.of("typing", "Any")
        return {-1: f"[{anything}, ...]", -2: f"[..., {anything}]"}.get(number) or f"[{', '.join([anything] * number)}]"

    def _is_loose(self, target: Target, value: Any, context: Context) -> bool:
        """Return whether a type without arguments has Any in it: an alias, a named tuple, a generic class."""
        if value is MISSING:
            return True
        if isinstance(value, type):
            cls: type[Any] = value
            generic = bool(getattr(cls, "__parameters__", ())) or hasattr(cls, "__class_getitem__")
            return generic or issubclass(cls, tuple)
        alias = self.alias(target, [], context)
        if alias is None or (target.module, target.name, Mode.KEEP) in self.examined:
            return False
        self.examined[target.module, target.name, Mode.KEEP] = True
        trial = Types(Names("", set()), self.twins, examined=self.examined)
        trial.convert(alias[0], alias[1].other(mode=Mode.KEEP))
        del self.examined[target.module, target.name, Mode.KEEP]
        return trial.loose

    def arms(self, node: ast.expr, context: Context) -> list[tuple[ast.expr, Context]]:
        """Return the types of a union, through aliases that matter; the type itself if it is no union."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.arms(parsed(node.value), context)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.arms(node.left, context) + self.arms(node.right, context)
        target = self.find(node.value if isinstance(node, ast.Subscript) else node, context)
        if target is None:
            return [(node, context)]
        items = type_arguments(node)
        form = heads.form(target.value)
        if form == "Union" and items:
            return [arm for each in items for arm in self.arms(each, context)]
        if form == "Optional" and items:
            return [*self.arms(items[0], context), (ast.Constant(None), context)]
        if form == "Annotated" and items:
            return self.arms(items[0], context)
        if form or isinstance(target.value, type):
            return [(node, context)]
        alias = self.alias(target, items, context)
        return [(node, context)] if alias is None or not self._matters(target, *alias) else self.arms(*alias)

    def union(self, arms: list[tuple[ast.expr, Context]]) -> Typed:
        """Return the type of a value that may be of several types."""
        arms = [arm for each in arms for arm in self.arms(*each)]
        every = [self.convert(node, context) for node, context in arms]
        text = " | ".join(dict.fromkeys(each.text for each in every))
        converted = [(each.text, each.convert) for each in every if each.convert is not None]
        if not converted:
            return Typed(text)
        context = arms[0][1]
        given = context.mode is Mode.PARAMETER
        name = "" if given else _variable_name("value", context.depth)
        tests = [(_class_of(of), convert) for of, convert in converted if _class_of(of)]
        plain = [each.text for each in every if each.convert is None]
        if given and not tests:
            return Typed(text, converted[0][1])
        if len({of for of, _ in converted}) == 1 and plain in ([], ["None"]):
            return Typed(text, _unless_none(converted[0][1], name) if plain else converted[0][1])
        otherwise = "_original" if given else "_any"
        if given:
            return Typed(text, lambda code: _dispatch(tests, name, code, otherwise))
        cast = self.names.of("typing", "cast")
        return Typed(text, lambda code: f'{cast}("{text}", {_dispatch(tests, name, code, otherwise)})')

    # The kinds of types.

    def _special(self, special: str, items: list[ast.expr], context: Context) -> Typed:
        if special in ("Annotated", "ClassVar", "Final", "Required", "NotRequired"):
            return self.convert(items[0], context) if items else self._any(f"the type inside of {special}")
        if special == "Optional":
            return self.union([(items[0], context), (ast.Constant(None), context)])
        if special == "Union":
            return self.union([(each, context) for each in items])
        name = self.names.of("typing", special)
        self.loose |= special == "Any"
        if special == "Literal":
            return Typed(f"{name}[{', '.join(self._literal(each, context) for each in items)}]")
        if special == "Self" and context.mode is Mode.RESULT and context.own:
            kind, own = ("type(self)", ", self") if context.own == "self" else ("cls", "")
            return Typed(name, lambda code: f"_twin({kind}, {code}{own})")
        if special == "Self" and context.mode is Mode.PARAMETER:
            return Typed(name, lambda code: f"_original({code})")
        return Typed(name)

    def _literal(self, node: ast.expr, context: Context) -> str:
        if isinstance(node, ast.Attribute):  # a member of an enumeration
            found = self.find(node.value, context)
            if found is not None:
                return f"{self.names.use(found)}.{node.attr}"
        return f'"{node.value}"' if _is_plain(node) else ast.unparse(node)  # type: ignore[attr-defined]

    def _variable(self, target: Target, value: Any, context: Context) -> Typed:
        known = context.variables.get(id(value))
        if known is not None:
            return self._known(known, context)
        node = module_of(target.module).nodes.get(target.name)
        made = getattr(node, "value", None)
        if node is None and (further := module_of(target.module).names.get(target.name)) is not None:
            return self._variable(further, value, context)
        if not isinstance(made, ast.Call) or any(each.arg == "default" for each in made.keywords):
            return self._of_variable(self.names.use(target), context)  # a default is for newer Pythons
        inside = context.other(scope=Scope(module_of(target.module)), mode=Mode.RESULT, variables={}, own="")
        kind = self.find(made.func, inside)
        if kind is None:
            return Typed(self.names.use(target))
        bounds = [self._bound(each, inside) for each in made.args[1:]]
        arguments = [text for text, _ in bounds]
        for each in made.keywords:
            if each.arg == "bound":
                bounds.append(self._bound(each.value, inside))
            text = bounds[-1][0] if each.arg == "bound" else ast.unparse(each.value)
            arguments.append(f"{each.arg}={text}")
        given = "".join(f", {each}" for each in arguments)
        name = self.names.variable(target.name, self.names.use(kind), given)
        return self._of_variable(name, context, over_twins=any(differs for _, differs in bounds))

    def _of_variable(self, name: str, context: Context, over_twins: bool = False) -> Typed:
        """Return the type that a variable of the class is; a class of the library's may stand for it.

        :param over_twins: its own bound is such a class.
        """
        over_twins = over_twins or (bool(context.own) and self.twins.is_over_twins(context.scope.cls))
        if context.mode is Mode.KEEP or not over_twins:
            return Typed(name)
        if context.mode is Mode.PARAMETER:
            return Typed(name, lambda code: f"_original({code})")
        cast = self.names.of("typing", "cast")
        return Typed(name, lambda code: f'{cast}("{name}", _any({code}))')

    def _known(self, known: Variable, context: Context) -> Typed:
        inside = known.context.other(mode=context.mode, own=context.own, depth=context.depth)
        return self.convert(known.node, inside)

    def _bound(self, node: ast.expr, context: Context) -> tuple[str, bool]:
        """Return the bound of a type variable, and whether it is another type in the twin."""
        typed = self.convert(node, context)
        differs = typed.convert is not None or typed.text != self.kept(node, context)
        return f'"{typed.text}"' if differs or isinstance(node, ast.Constant) else typed.text, differs

    def _twin(self, cls: type[Any], name: str, target: Target, items: list[ast.expr], context: Context) -> Typed:
        given = [self.convert(each, context) for each in items]
        if any(each.convert is not None for each in given):
            self.twins.note_over_twins(cls)
        text = name + (f"[{', '.join(each.text for each in given)}]" if items else "")
        if context.mode is Mode.PARAMETER:
            both = f"{text} | {self.names.use(target)}{self._kept_arguments(items, context)}"
            return Typed(text if context.depth else both, lambda code: f"_original({code})")
        own = ", self" if context.own == "self" and self.twins.is_own(cls, context) else ""
        return Typed(text, lambda code: f"_twin({text}, {code}{own})")

    def _kept_arguments(self, items: list[ast.expr], context: Context) -> str:
        return f"[{', '.join(self.kept(each, context) for each in items)}]" if items else ""

    def _iterated(self, item: ast.expr, context: Context) -> Typed:
        inner = self.convert(item, context.other(depth=context.depth + 1))
        text = f"{self.names.of('bridge', 'Items')}[{inner.text}]"
        return Typed(text, lambda code: self.iterate(code, inner))

    def iterate(self, code: str, inner: Typed, made: bool = True) -> str:
        """Return the code that iterates over an async iterable.

        :param made: the code is of the iterable; else it has to be called on the loop's thread.
        """
        verb = self.names.of("bridge", "iterate")
        if inner.convert is not None:
            return f"{verb}(_each(lambda: {code}, lambda each: {inner.convert('each')}))"
        if made:
            return f"{verb}({code})"
        return f"{verb}(_items(lambda: {code}))"

    def _entered(self, item: ast.expr, context: Context) -> Typed:
        inner = self.convert(item, context.other(depth=context.depth + 1))
        text = f"{self.names.of('bridge', 'Entered')}[{inner.text}]"
        return Typed(text, lambda code: self.enter(code, inner, made=True))

    def enter(self, code: str, inner: Typed, made: bool = False) -> str:
        """Return the code that makes a ``with`` block's context manager of an async one.

        :param made: the code is of the manager; else it has to be called on the loop's thread.
        """
        verb = self.names.of("bridge", "enter")
        if inner.convert is not None:
            return f"{verb}(_entered(lambda: {code}, lambda each: {inner.convert('each')}))"
        return f"{verb}({code})" if made else f"{verb}(lambda: {code})"

    def _container(self, kind: str, head: str, items: list[ast.expr], context: Context) -> Typed:
        inside = context.other(depth=context.depth + 1)
        inner = [self.convert(each, inside) for each in items]
        text = f"{head}[{', '.join(each.text for each in inner)}]"
        if all(each.convert is None for each in inner):
            return Typed(text)
        item = _variable_name("each", context.depth)
        codes = [each.convert(item) if each.convert is not None else item for each in inner]
        if kind == "list":
            return Typed(text, lambda code: f"[{codes[0]} for {item} in {code}]")
        if kind == "set":
            return Typed(text, lambda code: f"{{{codes[0]} for {item} in {code}}}")
        if kind == "frozenset":
            return Typed(text, lambda code: f"frozenset({{{codes[0]} for {item} in {code}}})")
        if kind == "dict":
            key = _variable_name("key", context.depth)
            keyed = inner[0].convert(key) if inner[0].convert is not None else key
            return Typed(text, lambda code: f"{{{keyed}: {codes[1]} for {key}, {item} in {code}.items()}}")
        if inner[-1].text == "...":
            return Typed(text, lambda code: f"tuple([{codes[0]} for {item} in {code}])")
        whole = _variable_name("value", context.depth)

        def rebuild(code: str) -> str:
            parts: list[str] = []
            for index, each in enumerate(inner):
                part = f"({whole} := {code})[0]" if index == 0 else f"{whole}[{index}]"
                parts.append(each.convert(part) if each.convert is not None else part)
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

        return Typed(text, rebuild)

    def _head(self, target: Target, value: Any) -> str:
        of: Any = heads.origin(value)
        if isinstance(of, type) and of.__module__ == "builtins" and getattr(builtins, heads.name_of(of), None) is of:
            return self.names.builtin(heads.name_of(of))
        return self.names.use(target, annotation=True)

    def _without_target(self, name: str, context: Context) -> Typed:
        if name in context.scope.local:
            known = context.variables.get(name)
            return self._of_variable(name, context) if known is None else self._known(known, context)
        return self._any(f"what {name!r} is")

    def _any(self, why: str) -> Typed:
        self.loose = True
        if why not in self.unknown:
            self.unknown.append(why)
        return Typed(self.names.of("typing", "Any"))


def _dispatch(tests: list[tuple[str, Code]], name: str, code: str, otherwise: str) -> str:
    """Return the code that converts a value by what it is: each kind of container in its way."""
    if not tests:
        return f"{otherwise}({code})"
    once = name or code
    parts: list[str] = []
    for index, (kind, convert) in enumerate(tests):
        asked = f"({name} := {code})" if name and index == 0 else once
        parts.append(f"{convert(once)} if isinstance({asked}, {kind}) else ")
    return f"{''.join(parts)}{otherwise}({once})"


def _class_of(text: str) -> str:
    """Return the builtin that ``isinstance`` asks for, of a container's text; empty for anything else."""
    head = text.partition("[")[0].rpartition(".")[2]
    return {"list": "list", "Sequence": "list", "dict": "dict", "tuple": "tuple", "set": "set"}.get(head, "")


def _unless_none(convert: Code, name: str) -> Code:
    if not name:  # a parameter, which may be named twice
        return lambda code: f"None if {code} is None else {convert(code)}"
    return lambda code: f"None if ({name} := {code}) is None else {convert(name)}"


def _variable_name(name: str, depth: int) -> str:
    return name if depth == 0 else f"{name}{depth + 1}"


def _is_plain(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.isprintable()
        and '"' not in node.value
        and "\\" not in node.value
    )
