"""Write classes: bases, attributes, ``__init__``, and the rest."""

from __future__ import annotations

import ast
from typing import Any, Generic

from .context import Context
from .functions import Functions
from .members import Member, bases, members, own_context
from .names import Names
from .source import Scope, Target, module_of
from .specials import Specials
from .types import Types


class Classes:
    """Writes the classes of one file.

    :param twins: the name of each twin, by the class.
    """

    def __init__(self, types: Types, functions: Functions, twins: dict[type[Any], str]) -> None:
        self._types = types
        self._functions = functions
        self._twins = twins

    def lines(self, cls: type[Any]) -> list[str]:
        """Return the lines of the twin of a class."""
        types, names = self._types, self._types.names
        context = own_context(cls, Context(Scope(module_of(cls.__module__)), own="self"))
        inherited = {each for base in self._twin_bases(cls) for each in base.__mro__} - {object, Generic}
        original = original_name(cls, names)
        node = module_of(cls.__module__).classes.get(cls.__qualname__)
        head, arguments = self._head(cls, node, context)
        documented = self._functions.layout.docstring(4, _own_doc(cls))
        if arguments and self._types.twins.is_over_twins(cls):  # whose own bounds are of other classes than the twin's
            anything = self._types.names.of("typing", "Any")
            arguments = f"[{', '.join([anything] * (arguments.count(',') + 1))}]"
        parts = [[f"    _async: {original}{arguments}"]]
        found = list(members(cls, context, types, inherited))
        initializer = next((each for each in found if each.name == "__init__" and each.kind == "method"), None)
        attributes = [each for each in found if each.kind in ("attribute", "constant")]
        written = [(each.kind, self._attribute(each, original)) for each in attributes]
        parts += [[line for kind, lines in written if kind == "constant" for line in lines]]
        parts.append(self._initializer(initializer, original))
        parts += [lines for kind, lines in written if kind == "attribute"]
        specials = Specials(self._functions, cls, context)
        for each in found:
            if each.name == "__init__" or each.kind in ("attribute", "constant"):
                continue
            if each.name.startswith("__"):
                parts.append(specials.lines(each) if each.kind == "method" else [])
            elif each.kind == "property":
                parts.append(self._functions.property_lines(each, 4))
            else:
                own = "self._async"
                if each.kind in ("classmethod", "staticmethod"):
                    number = len(getattr(cls, "__parameters__", ()) or getattr(node, "type_params", ()))
                    anything = ", ".join([names.of("typing", "Any")] * number)
                    own = f"{original}[{anything}]" if number else original
                parts.append(self._functions.lines(each, 4, f"{own}.{each.name}"))
        lines = [f"class {self._twins[cls]}{head}:", *documented]
        for part in filter(None, parts):
            lines += ["", *part] if len(lines) > 1 else part
        return lines

    def _twin_bases(self, cls: type[Any]) -> list[type[Any]]:
        """Return the nearest bases that have a twin."""
        found: list[type[Any]] = []
        for base in cls.__bases__:
            found += [base] if base in self._twins else self._twin_bases(base)
        return list(dict.fromkeys(found))

    def _head(self, cls: type[Any], node: ast.ClassDef | None, context: Context) -> tuple[str, str]:
        """Return the bases in their brackets, and the type arguments of the class itself."""
        written: list[str] = []
        covered: set[int] = set()
        todo = list(bases(cls, context, self._types))
        while todo:
            base, at = todo.pop(0)
            if base in self._twins:
                parameters = getattr(base, "__parameters__", ())
                given = [at.variables[id(each)] for each in parameters if id(each) in at.variables]
                typed = [self._types.convert(each.node, each.context) for each in given]
                texts = [each.text for each in typed]
                if any(each.convert is not None for each in typed):
                    self._types.twins.note_over_twins(base)
                written.append(self._twins[base] + (f"[{', '.join(texts)}]" if texts else ""))
                covered |= {id(each) for each in getattr(cls, "__parameters__", ())} if texts else set()
            elif any(each in self._twins for each in base.__mro__):
                todo[:0] = list(bases(base, at, self._types))
        declared: list[Any] = getattr(node, "type_params", [])
        if declared:
            parameters = ", ".join(each.name for each in declared)
            bound = self._functions.declared(node, context)
            return bound + (f"({', '.join(written)})" if written else ""), f"[{parameters}]"
        variables: list[Any] = list(getattr(cls, "__parameters__", ()))
        texts = [self._variable(each, cls, context) for each in variables]
        if texts and not all(id(each) in covered for each in variables):
            written.append(f"{self._types.names.of('typing', 'Generic')}[{', '.join(texts)}]")
        return f"({', '.join(written)})" if written else "", f"[{', '.join(texts)}]" if texts else ""

    def _variable(self, variable: Any, cls: type[Any], context: Context) -> str:
        for module in (cls.__module__, variable.__module__):
            target = module_of(module).resolve(variable.__name__)
            if target is not None and target.value is variable:
                return self._types.of(target, [], context).text
        return self._types.of(Target(variable.__module__, variable.__name__), [], context).text

    def _initializer(self, member: Member | None, original: str) -> list[str]:
        blocking = self._types.names.of("bridge", "blocking")
        if member is None:
            return ["    def __init__(self) -> None:", f"        self._async = {blocking}({original})().__wrapped__"]
        return self._functions.initializer_lines(
            member, 4, f"self._async = {blocking}({original})", ".__wrapped__", f"{original}.__init__"
        )

    def _attribute(self, member: Member, original: str) -> list[str]:
        types, names = self._types, self._types.names
        types.unknown.clear()
        context = member.context.other(own="self")
        if member.kind == "constant":
            if member.annotation is None:
                return [f"    {member.name} = {original}.{member.name}"]
            owner: Any = member.context.scope.cls
            if not hasattr(owner, member.name):
                return []
            typed = types.convert(member.annotation, context)
            if typed.convert is None:
                bare = typed.text in ("", names.of("typing", "Any"))
                said = "" if bare else f": {names.of('typing', 'ClassVar')}[{typed.text}]"
                return [f"    {member.name}{said} = {original}.{member.name}"]
        name, builtin = member.name, names.builtin("property")
        lines = []
        if member.annotation is None:
            text, code, given, value = (
                names.of("typing", "Any"),
                f"_any(self._async.{name})",
                names.of("typing", "Any"),
                "value",
            )
            lines = [f"    # Any: the library does not say the type of {name}."]
        else:
            typed = types.convert(member.annotation, context)
            text, code = typed.text, f"self._async.{name}"
            code = typed.convert(code) if typed.convert is not None else code
            given, value = self._functions.setting(member, context, typed)
        lines += [
            f"    @{builtin}",
            f"    def {name}(self) -> {text}:",
            *self._functions.layout.statement(8, f"return {code}"),
        ]
        if member.settable and not _is_frozen(member):
            lines += ["", f"    @{name}.setter", f"    def {name}(self, value: {given}) -> None:"]
            lines += [f"        self._async.{name} = {value}"]
        return lines


def original_name(cls: type[Any], names: Names) -> str:
    """Return the name by which the file reaches a class of the library's."""
    outer, _, inner = cls.__qualname__.partition(".")
    base = names.use(Target(cls.__module__, outer))
    return f"{base}.{inner}" if inner else base


def _is_frozen(member: Member) -> bool:
    parameters = getattr(member.context.scope.cls, "__dataclass_params__", None)
    return bool(getattr(parameters, "frozen", False))


def _own_doc(cls: type[Any]) -> str | None:
    doc = vars(cls).get("__doc__")
    generated = hasattr(cls, "__dataclass_fields__") and str(doc).startswith(f"{cls.__name__}(")
    return None if generated else doc
