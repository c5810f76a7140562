"""Write functions, methods and properties: a signature, a docstring, and one line over the library's own."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .context import Context, Mode, Typed
from .expressions import expression
from .layout import Layout
from .members import Member, members
from .names import parsed
from .results import Result, Results
from .source import Function, decorators, type_parameters
from .types import Types


@dataclass
class Parameters:
    """The parameters of a function as the twin writes them, and the arguments that it hands on."""

    written: list[str] = field(default_factory=list[str])
    handed_on: list[str] = field(default_factory=list[str])
    untyped: list[str] = field(default_factory=list[str])

    omitted: list[str] = field(
        default_factory=list[str]
    )  # handed on only if they are given: nobody can write the default

    changed: list[str] = field(default_factory=list[str])  # handed on only if they are not the default

    def arguments(self, target: str) -> str:
        """Return the arguments of the call of a function."""
        given = [f"**_given({', '.join(self.omitted)})"] if self.omitted else []
        given += [f"**_changed({target}, {', '.join(self.changed)})"] if self.changed else []
        return ", ".join([*self.handed_on, *given])


class Functions:
    """Writes the functions of one file."""

    def __init__(self, types: Types, layout: Layout) -> None:
        self.types = types
        self.layout = layout
        self.results = Results(types)

    def lines(self, member: Member, indent: int, target: str) -> list[str]:
        """Return the lines of a function or a method.

        :param target: the code of the library's own function, such as ``self._async.get``.
        """
        types = self.types
        types.unknown.clear()
        context = member.context.other(
            own={"method": "self", "property": "self", "classmethod": "cls"}.get(member.kind, "")
        )
        overloads = self._overloads(member, indent, context)
        if len(overloads) == 1:  # all the same, once nothing is awaited
            member = dataclasses.replace(member, node=_merged(member.node, overloads[0][0]), overloads=[])
            overloads = []
        inside = self.results.inside(member.node, context)
        types.loose = False
        parameters = self.parameters(member, inside)
        loosely_called, types.loose = types.loose, False
        result = self.results.of(member, member.node, inside)
        typed = self.returned(result)
        if parameters.untyped:
            types.unknown.insert(0, f"the type of {', '.join(parameters.untyped)}")
        if overloads:
            typed = Typed(types.names.of("typing", "Any"), typed.convert)
        cast = self._cast(result, bool(parameters.untyped), bool(overloads))
        types.loose |= bool(cast) or _is_decorated(member)
        body = self.body(result, target, parameters.arguments(target), cast, typed, loosely_called and not cast)
        lines = [line for _, each in overloads for line in each]
        lines += self._comment(indent)
        lines += self._decorators(member, member.node, indent)
        lines += self._definition(member, member.node, indent, parameters, typed.text)
        documented = self.layout.docstring(indent + 4, inspect.getdoc(member.value) if _is_documented(member) else None)
        return [*lines, *documented, *self.statements(indent + 4, body, typed.text, types.loose)]

    def _overloads(self, member: Member, indent: int, context: Context) -> list[tuple[Function, list[str]]]:
        found: dict[str, tuple[Function, list[str]]] = {}
        for node in member.overloads:
            inside = self.results.inside(node, context)
            parameters = self.parameters(dataclasses.replace(member, node=node), inside)
            typed = self.returned(self.results.of(member, node, inside))
            lines = [
                f"{' ' * indent}@{self.types.names.of('typing', 'overload')}",
                *self._decorators(member, node, indent),
            ]
            lines += self._definition(member, node, indent, parameters, typed.text)
            lines[-1] += " ..."
            found.setdefault("\n".join(lines), (node, lines))
        return list(found.values())

    def returned(self, result: Result) -> Typed:
        """Return the type that a twin's function returns."""
        if result.kind == "iterated":
            return Typed(f"{self.types.names.of('bridge', 'Items')}[{result.typed.text}]")
        if result.kind == "entered":
            return Typed(f"{self.types.names.of('bridge', 'Entered')}[{result.typed.text}]")
        return result.typed

    def statements(self, indent: int, body: str, returns: str, loose: bool) -> list[str]:
        """Return the lines of a body. Where a result has Any in it, mypy takes all of it for Any: so it is told."""
        anything = self.types.names.of("typing", "Any")
        blocks = body.startswith(f"return {self.types.names.of('bridge', 'blocking')}(")
        if not (loose and blocks) or returns == anything:
            return self.layout.statement(indent, body)
        told = f"result: {returns} = {body.removeprefix('return ')}"
        return [*self.layout.statement(indent, told), f"{' ' * indent}return result"]

    def body(
        self, result: Result, target: str, arguments: str, cast: str, typed: Typed, loosely_called: bool = False
    ) -> str:
        """Return the one line of a function's body.

        :param loosely_called: a parameter has Any in it, which mypy would take for the result's.
        """
        call = f"{target}({arguments})"
        if result.kind == "iterated":
            return f"return {self.types.iterate(call, result.typed, made=result.generator)}"
        if result.kind == "entered":
            return f"return {self.types.enter(call, result.typed)}"
        blocking = self.types.names.of("bridge", "blocking")
        convert = typed.convert
        if cast:
            target = f'{self.types.names.of("typing", "cast")}("{cast}", {target})'
        if loosely_called and result.kind in ("awaited", "plain"):
            target, arguments = f"lambda: {call}", ""
        if typed.text == "None":
            return f"{blocking}({target})({arguments})"
        if result.kind == "awaited" or (convert is not None and typed.text == self.types.names.of("typing", "Any")):
            code = f"{blocking}({target})({arguments})"
            return f"return {convert(code) if convert is not None else code}"
        if convert is not None:
            return f"return {blocking}(lambda: {convert(call)})()"
        if result.is_async:  # a view would wait for it, or wrap it
            return f"return {blocking}(lambda: [{call}])()[0]"
        return f"return {blocking}({target})({arguments})"

    def _cast(self, result: Result, untyped: bool, overloaded: bool) -> str:
        """Return the type that a checker has to be told of the library's function; empty if it knows it."""
        names = self.types.names
        if not (untyped or overloaded or result.cast) or result.kind in ("iterated", "entered"):
            return ""
        called = f"{names.of('collections.abc', 'Callable')}[..., "
        if overloaded or result.typed.convert is not None:
            return f"{called}{names.of('typing', 'Any')}]"
        text = result.cast or result.typed.text
        return (
            f"{called}{names.of('collections.abc', 'Awaitable')}[{text}]]"
            if result.kind == "awaited"
            else f"{called}{text}]"
        )

    def _comment(self, indent: int) -> list[str]:
        if not self.types.unknown:
            return []
        text = f"# Any: the library does not say {'; '.join(self.types.unknown)}."
        self.types.unknown.clear()
        return list(_wrapped(text, indent, self.layout.width))

    def _decorators(self, member: Member, node: Function | None, indent: int) -> list[str]:
        lines: list[str] = []
        if member.kind in ("classmethod", "staticmethod", "property"):
            lines.append(f"{' ' * indent}@{self.types.names.builtin(member.kind)}")
        for each in node.decorator_list if node is not None else ():
            if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] == "deprecated":
                text = expression(each.func, member.context, self.types)
                arguments = [*each.args, *(keyword.value for keyword in each.keywords if keyword.arg is None)]
                said = ", ".join(expression(argument, member.context, self.types) for argument in arguments)
                lines += self.layout.statement(indent, f"@{text}({said})")
        return lines

    def _definition(
        self, member: Member, node: Function | None, indent: int, parameters: Parameters, returns: str
    ) -> list[str]:
        first = {"method": ["self"], "property": ["self"], "classmethod": ["cls"]}.get(member.kind, [])
        if node in member.overloads and member.kind == "method":
            first = [f"self{self._own_type(node, member.context)}"]
        written = parameters.written
        if written[:1] == ["/"]:
            written = written[1:]
        head = f"def {member.name}{self.declared(node, member.context)}"
        return self.layout.definition(indent, head, [*first, *written], f" -> {returns}:")

    def _own_type(self, node: Function | None, context: Context) -> str:
        """Return the annotation of ``self`` where an overload is for some type arguments of the class only."""
        first = [*node.args.posonlyargs, *node.args.args][:1] if node is not None else []
        said = first[0].annotation if first else None
        said = parsed(said.value) if isinstance(said, ast.Constant) and isinstance(said.value, str) else said
        if not isinstance(said, ast.Subscript) or (target := self.types.find(said.value, context)) is None:
            return ""
        name = self.types.twins.name_of(target.value, Mode.PARAMETER) if isinstance(target.value, type) else None
        if name is None:
            return ""
        return f": {self.types.convert(said, context.other(mode=Mode.RESULT)).text}"

    def declared(self, node: ast.stmt | None, context: Context) -> str:
        """Return the type parameters that a class or a function declares, in their brackets."""
        inside = context.other(scope=context.scope.with_local(type_parameters(node)))
        texts: list[str] = []
        for each in getattr(node, "type_params", ()):
            text = {"ParamSpec": "**", "TypeVarTuple": "*"}.get(type(each).__name__, "") + each.name
            if getattr(each, "bound", None) is not None:
                text += f": {self.types.convert(each.bound, inside).text}"
            if getattr(each, "default_value", None) is not None:
                text += f" = {self.types.convert(each.default_value, inside).text}"
            texts.append(text)
        return f"[{', '.join(texts)}]" if texts else ""

    def special(self, cls: type[Any], name: str, context: Context) -> Member | None:
        """Return a special method of a class, its own or one that it inherits."""
        return next((each for each in members(cls, context, self.types, set()) if each.name == name), None)

    def initializer_lines(self, member: Member, indent: int, before: str, after: str, target: str) -> list[str]:
        """Return the lines of ``__init__``."""
        self.types.unknown.clear()
        lines: list[str] = []
        for node in member.overloads:
            parameters = self.parameters(
                dataclasses.replace(member, node=node), self.results.inside(node, member.context)
            )
            lines += [f"{' ' * indent}@{self.types.names.of('typing', 'overload')}"]
            lines += self._definition(member, node, indent, parameters, "None")
            lines[-1] += " ..."
        parameters = self.parameters(member, self.results.inside(member.node, member.context))
        if parameters.untyped:
            self.types.unknown.insert(0, f"the type of {', '.join(parameters.untyped)}")
        lines += self._comment(indent)
        lines += self._definition(member, member.node, indent, parameters, "None")
        lines += self.layout.docstring(indent + 4, inspect.getdoc(member.value) if _is_documented(member) else None)
        return [*lines, *self.layout.statement(indent + 4, f"{before}({parameters.arguments(target)}){after}")]

    def parameters(self, member: Member, context: Context) -> Parameters:
        """Return the parameters of a member's def, without that of the object itself."""
        found = Parameters()
        node = member.node
        if node is None:
            anything = self.types.names.of("typing", "Any")
            found.written, found.handed_on = [f"*args: {anything}", f"**kwargs: {anything}"], ["*args", "**kwargs"]
            found.untyped.append("its parameters")
            return found
        skip = member.kind in ("method", "property", "classmethod")
        context = context.other(mode=Mode.PARAMETER)
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
        pairs = list(zip(positional, [*defaults, *node.args.defaults], strict=True))
        last_posonly = len(node.args.posonlyargs)
        if skip and pairs:
            pairs = pairs[1:]
            last_posonly -= 1
        # A decorator of the library's may look at what it is given, and warn of arguments that nobody has written.
        decorated = _is_decorated(member) and node.args.vararg is None
        for index, (each, default) in enumerate(pairs):
            self._add(found, each, default, context, "/" if index < last_posonly else "", decorated)
            if index + 1 == last_posonly:
                found.written.append("/")
        if node.args.vararg is not None:
            self._add(found, node.args.vararg, None, context, "*")
        elif node.args.kwonlyargs:
            found.written.append("*")
        for each, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            self._add(found, each, default, context, "=", _is_decorated(member))
        if node.args.kwarg is not None:
            self._add(found, node.args.kwarg, None, context, "**")
        return found

    def _add(
        self,
        found: Parameters,
        each: ast.arg,
        default: ast.expr | None,
        context: Context,
        kind: str = "",
        decorated: bool = False,
    ) -> None:
        stars = kind if kind in ("*", "**") else ""
        if each.annotation is None:
            found.untyped.append(each.arg)
            typed = Typed(self.types.names.of("typing", "Any"))
        else:
            typed = self.types.convert(each.annotation, context)
        text = "" if default is None else expression(default, context, self.types)
        value = f" = {text or '_OMITTED'}" if default is not None else ""
        found.written.append(f"{stars}{each.arg}: {typed.text}{value}")
        code = each.arg
        if typed.convert is not None:
            item = typed.convert("each")
            code = {
                "*": f"[{item} for each in {each.arg}]",
                "**": f"{{key: {item} for key, each in {each.arg}.items()}}",
            }.get(kind) or typed.convert(each.arg)
        if default is not None and not text:
            found.omitted.append(f"{each.arg}={code}")
        elif default is not None and kind != "/" and decorated:
            found.changed.append(f"{each.arg}={code}")
        else:
            named = kind == "=" or ((found.omitted or found.changed) and not stars)
            found.handed_on.append(f"{each.arg}={code}" if named else f"{stars}{code}")

    # Properties.

    def property_lines(self, member: Member, indent: int) -> list[str]:
        """Return the lines of a property, which is read and set on the loop's thread."""
        types = self.types
        types.unknown.clear()
        context = self.results.inside(member.node, member.context.other(own="self"))
        types.loose = False
        result = self.results.of(member, member.node, context)
        typed, loose = self.returned(result), types.loose
        read = f"self._async.{member.name}"
        blocking = types.names.of("bridge", "blocking")
        convert = typed.convert
        if result.kind == "iterated":
            body = f"return {types.iterate(read, result.typed, made=False)}"
        elif result.kind == "entered":
            body = f"return {types.enter(read, result.typed)}"
        elif result.kind == "awaited" or (convert is not None and typed.text == types.names.of("typing", "Any")):
            if result.cast:  # a union with what is awaited
                awaitable = types.names.of("collections.abc", "Awaitable")
                read = f'{types.names.of("typing", "cast")}("{awaitable}[{result.cast}]", {read})'
            code = f"{blocking}(lambda: {read})()"
            body = f"return {convert(code) if convert is not None else code}"
        elif convert is not None:
            body = f"return {blocking}(lambda: {convert(read)})()"
        elif result.is_async:
            body = f"return {blocking}(lambda: [{read}])()[0]"
        else:
            body = f"return {blocking}(lambda: {read})()"
        lines = [*self._comment(indent), *self._decorators(member, member.node, indent)]
        lines += [f"{' ' * indent}def {member.name}(self) -> {typed.text}:"]
        lines += self.layout.docstring(indent + 4, inspect.getdoc(member.value))
        lines += self.statements(indent + 4, body, typed.text, loose)
        if member.settable:
            value, converted = self.setting(member, context, typed)
            lines += ["", f"{' ' * indent}@{member.name}.setter"]
            lines += [f"{' ' * indent}def {member.name}(self, value: {value}) -> None:"]
            body = f'{blocking}(lambda: setattr(self._async, "{member.name}", {converted}))()'
            lines += self.layout.statement(indent + 4, body)
        return lines

    def setting(self, member: Member, context: Context, typed: Typed) -> tuple[str, str]:
        """Return the type that an attribute is set to, and the code of the value that the library's gets."""
        annotation = member.annotation if member.node is None else member.node.returns
        if annotation is None or typed.convert is None:
            return typed.text, "value"
        given = self.types.convert(annotation, context.other(mode=Mode.PARAMETER, depth=1))
        return typed.text, given.convert("value") if given.convert is not None else "value"


def _is_decorated(member: Member) -> bool:
    """Return whether a decorator of the library's makes the type, with Any in it for all that is known."""
    known = {"abstractmethod", "asynccontextmanager", "cached_property", "classmethod", "contextmanager", "deprecated"}
    known |= {"final", "overload", "override", "property", "setter", "staticmethod"}
    return member.node is not None and not known.issuperset(decorators(member.node))


def _merged(node: Function | None, overload: Function) -> Function:
    """Return the def of a function with the types of its only overload, whose defaults are just ``...``."""
    if node is None:
        return overload
    said = {each.arg: each.annotation for each in ast.walk(overload.args) if isinstance(each, ast.arg)}
    arguments = copy.deepcopy(node.args)
    for each in ast.walk(arguments):
        if isinstance(each, ast.arg):
            each.annotation = said.get(each.arg) or each.annotation
    made = copy.copy(overload)
    made.args, made.body, made.decorator_list = arguments, node.body, node.decorator_list
    return made


def _is_documented(member: Member) -> bool:
    return bool(getattr(member.value, "__doc__", None))


def _wrapped(text: str, indent: int, width: int) -> Iterator[str]:
    space = " " * indent
    line = space
    for word in text.split():
        if len(line) + len(word) + 1 > width and line.strip() != "#":
            yield line
            line = f"{space}#"
        line += word if not line.strip() else f" {word}"
    yield line
