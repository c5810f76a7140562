"""Write special methods: ``with``, ``for``, ``await``, and those that a sync class has as well."""

from __future__ import annotations

import ast

from .context import Context, Typed, type_arguments
from .functions import Functions
from .members import Member
from .results import Result

# In the caller's thread, as by a view, so that a look-up in a set of twins does not cross to the loop.
_COMPARED = {"__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}
_READ = {"__hash__": ("int", "hash"), "__str__": ("str", "str"), "__bool__": ("bool", "bool")}
_CALLED = {
    *("__call__", "__len__", "__length_hint__", "__contains__", "__getitem__", "__setitem__", "__delitem__"),
    *("__reversed__", "__neg__", "__pos__", "__abs__", "__invert__", "__round__", "__int__", "__float__"),
    *("__index__", "__bytes__", "__fspath__", "__add__", "__radd__", "__sub__", "__mul__", "__truediv__"),
    *("__floordiv__", "__mod__", "__pow__", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__"),
    *("__iter__", "__next__", "__enter__", "__exit__"),
}


class Specials:
    """Writes the special methods of one class."""

    def __init__(self, functions: Functions, cls: type, context: Context) -> None:
        self._functions = functions
        self._types = functions.types
        self._cls = cls
        self._context = context

    def lines(self, member: Member) -> list[str]:
        """Return the lines of the twin of a special method; none for one that has no sync counterpart."""
        name, has = member.name, self._has
        if name == "__aenter__" and has("__aexit__"):
            return self._entering(member)
        if name == "__aexit__" and has("__aenter__"):
            return self._leaving(member)
        if name == "__anext__":
            return self._following(member)
        if name == "__aiter__":
            return self._iterating(member)
        if name == "__await__":
            return self._waiting(member)
        if name in _COMPARED:
            body = f"return bool(self._async {_COMPARED[name]} _original(other))"
            return [f"    def {name}(self, other: object) -> bool:", f"        {body}"]
        if name in _READ and callable(member.value):
            returns, function = _READ[name]
            returns = self._types.names.builtin(returns)
            return [f"    def {name}(self) -> {returns}:", f"        return {function}(self._async)"]
        if name == "__repr__":
            text = self._types.names.builtin("str")
            return [f"    def __repr__(self) -> {text}:", '        return f"<sync twin of {self._async!r}>"']
        if name == "__getattr__":
            return self._made_up()
        replaced = {
            "__enter__": "__aenter__",
            "__exit__": "__aexit__",
            "__iter__": "__aiter__",
            "__next__": "__anext__",
        }
        if name in _CALLED and not (name in replaced and has(replaced[name])):
            return self._functions.lines(member, 4, f"self._async.{name}")
        return []

    def _has(self, name: str) -> bool:
        return getattr(self._cls, name, None) is not None

    def _entering(self, member: Member) -> list[str]:
        typed = self._result(member).typed
        code = f"_enter(self, {self._types.names.of('bridge', 'enter')}(self._async))"
        if typed.text == "None":
            body = code
        elif typed.convert is None and typed.text == self._types.names.of("typing", "Any"):
            body = f"return {code}"
        else:
            body = f"return {typed.convert(code) if typed.convert is not None else code}"
        lines = [f"    def __enter__(self) -> {typed.text}:", *self._doc(member)]
        return [*lines, *self._functions.layout.statement(8, body)]

    def _leaving(self, member: Member) -> list[str]:
        said = ast.unparse(member.node.returns) if member.node is not None and member.node.returns else ""
        names = self._types.names
        kind = names.builtin("type")
        parameters = [
            "self",
            f"exc_type: {kind}[BaseException] | None",
            "exc: BaseException | None",
            f"traceback: {names.of('types', 'TracebackType')} | None",
        ]
        returns = "None" if said.strip("'\"") == "None" else f"{names.builtin('bool')} | None"
        call = "_exit(self, exc_type, exc, traceback)"
        lines = self._functions.layout.definition(4, "def __exit__", parameters, f" -> {returns}:")
        return [*lines, *self._doc(member), f"        {call if returns == 'None' else f'return {call}'}"]

    def _item(self) -> Typed:
        """Return the type of the items: what ``__anext__`` returns, else what ``__aiter__`` says."""
        for name in ("__anext__", "__aiter__"):
            member = self._functions.special(self._cls, name, self._context)
            if member is None or member.node is None:
                continue
            result = self._result(member)
            if name == "__anext__" and result.kind in ("awaited", "plain"):
                return result.typed
            if result.kind == "iterated":
                return result.typed
        return Typed(self._types.names.of("typing", "Any"))

    def _iterating(self, member: Member) -> list[str]:
        item = self._item()
        items = self._types.names.of("bridge", "Items")
        code = self._types.iterate("self._async", item)
        return [
            *(f"    def __iter__(self) -> {items}[{item.text}]:", *self._doc(member)),
            *self._functions.layout.statement(8, f"return {code}"),
        ]

    def _following(self, member: Member) -> list[str]:
        item = self._item()
        code = f"next(_kept(self, {self._types.iterate('self._async', item)}))"
        lines = [f"    def __next__(self) -> {item.text}:", *self._doc(member)]
        return [*lines, *self._functions.layout.statement(8, f"return {code}")]

    def _waiting(self, member: Member) -> list[str]:
        if self._has("wait"):
            return ["    # There is no twin of __await__: 'wait' is the name of another method.", ""]
        node = member.node
        inside = member.context.other(own="self")
        if node is None or not isinstance(node.returns, ast.Subscript):
            typed = Typed(self._types.names.of("typing", "Any"))
        else:
            parts = type_arguments(node.returns)
            typed = self._types.convert(parts[-1], inside)
        code = f"{self._types.names.of('bridge', 'blocking')}(lambda: self._async)()"
        code = f"return {typed.convert(code) if typed.convert is not None else code}"
        doc = self._functions.layout.docstring(8, "Wait, and return what ``await`` returns.")
        return [f"    def wait(self) -> {typed.text}:", *doc, *self._functions.layout.statement(8, code)]

    def _made_up(self) -> list[str]:
        anything = self._types.names.of("typing", "Any")
        blocking = self._types.names.of("bridge", "blocking")
        return [
            f"    def __getattr__(self, name: {self._types.names.builtin('str')}) -> {anything}:",
            '        if name.startswith("_"):',
            "            raise AttributeError(name)",
            f"        return getattr({blocking}(self._async), name)",
        ]

    def _result(self, member: Member) -> Result:
        context = self._functions.results.inside(member.node, member.context.other(own="self"))
        return self._functions.results.of(member, member.node, context)

    def _doc(self, member: Member) -> list[str]:
        return self._functions.layout.docstring(8, getattr(member.value, "__doc__", None))
