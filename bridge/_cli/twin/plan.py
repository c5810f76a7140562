"""Which classes and functions get a twin, and what each twin is called."""

from __future__ import annotations

import ast
import difflib
import enum
import importlib
import inspect
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ..._views.detect import has_async, is_async_function, return_annotation, top_level
from . import heads
from .context import Context, Mode
from .members import function_of
from .names import Names, parsed
from .results import Results
from .source import TwinError
from .types import Types

_PROTOCOLS = ("__aenter__", "__aiter__", "__anext__", "__await__")
_ANNOTATION = re.compile(r"['\"]?(\w+\.)*(Async\w+|AbstractAsyncContextManager|Awaitable|Coroutine|Deferred)\b")


@dataclass
class Plan:
    """The twins of one file. Classes that the named ones return are added as they are found."""

    renamed: dict[str, str]
    classes: dict[type[Any], str] = field(default_factory=dict[type[Any], str])
    functions: dict[str, Any] = field(default_factory=dict[str, Any])  # by the twin's name
    package: str = ""
    current: type[Any] | None = None  # whose twin is being written
    over_twins: set[type[Any]] = field(
        default_factory=set[type[Any]]
    )  # generic classes that are used with a class with a twin

    def add(self, name: str) -> None:
        """Add what a command line names: ``package.module:Name``, or a whole module.

        :raises TwinError: there is no such thing, it cannot be imported, or it has nothing async in it.
        """
        module_name, colon, attribute = name.partition(":")
        module = _imported(module_name)
        self.package = self.package or module_name.partition(".")[0]
        if self.package != module_name.partition(".")[0]:
            raise TwinError(f"{name} is of another package than {self.package}: write a file for each")
        if colon:
            self._add_object(module, attribute, name)
            return
        before = len(self.classes) + len(self.functions)
        for each in _public(module):
            value = getattr(module, each)
            if top_level(value) != self.package or isinstance(value, ModuleType):
                continue
            if isinstance(value, type) and is_async_class(value):
                self._add_class(value)
            elif inspect.isroutine(value) and (is_async_function(value) or self._returns_async(each, value)):
                self._add_function(each, value)
        if len(self.classes) + len(self.functions) == before:
            raise TwinError(f"{module_name} has nothing public and async in it, so there is nothing to write a twin of")

    def _add_object(self, module: ModuleType, attribute: str, name: str) -> None:
        if not attribute:
            raise TwinError(f"{name} has no name after the colon")
        value = getattr(module, attribute, None)
        if value is None and not hasattr(module, attribute):
            close = difflib.get_close_matches(attribute, dir(module), 1)
            hint = f"; did you mean {module.__name__}:{close[0]}?" if close else ""
            raise TwinError(f"{module.__name__} has no {attribute!r}{hint}")
        if isinstance(value, type):
            if not (has_async(value) or is_async_class(value)):
                raise TwinError(f"the class {name} has nothing async in it: use it as it is")
            self._add_class(value)
        elif inspect.isroutine(value) or (callable(value) and hasattr(value, "__wrapped__")):
            if not (is_async_function(value) or self._returns_async(attribute, value)):
                raise TwinError(f"the function {name} is not async: call it as it is")
            self._add_function(attribute, value)
        else:
            raise TwinError(
                f"{name} is an object of type {type(value).__name__}: "
                "a twin is written of a class, a function or a module"
            )

    def _returns_async(self, name: str, function: Any) -> bool:
        """Return whether a sync function returns an object that gets a twin."""
        member = function_of(name, function)
        result = Results(Types(Names("", set()), self)).of(member, member.node, member.context)
        return result.kind != "plain" or (result.typed.convert is not None and result.typed.text != "Any")

    def _add_class(self, cls: type[Any]) -> None:
        if cls not in self.classes:
            self.classes[cls] = self._free(self.renamed.get(cls.__name__) or twin_name(cls.__name__), cls)

    def _add_function(self, name: str, function: Any) -> None:
        given = self._free(self.renamed.get(name, name), function)
        self.functions[given] = function

    def _free(self, name: str, value: Any) -> str:
        if not name.isidentifier():
            raise TwinError(f"{name!r} is no name for a class or a function")
        others: dict[str, Any] = {**{each: cls for cls, each in self.classes.items()}, **self.functions}
        if name in others and others[name] is not value:
            first, second = _described(others[name]), _described(value)
            raise TwinError(
                f"the twins of {first} and {second} would both be called {name}: "
                f"give one of them another name, as by --name {value.__name__}={name}2"
            )
        return name

    # What types ask for: see types.Twins.

    def name_of(self, cls: type[Any], mode: Mode) -> str | None:
        """Return the name of a class's twin; None if it has none. A result's class gets one if it is async."""
        if mode is Mode.KEEP:
            return None
        if mode is Mode.RESULT and cls not in self.classes and top_level(cls) == self.package and is_async_class(cls):
            self._add_class(cls)
        return self.classes.get(cls)

    def note_over_twins(self, cls: type[Any]) -> None:
        """Remember that a type variable of the class stands for a class with a twin somewhere."""
        self.over_twins |= set(cls.__mro__)

    def is_over_twins(self, cls: type[Any] | None) -> bool:
        """Return whether a type variable of the class stands for a class with a twin somewhere."""
        return cls in self.over_twins

    def is_own(self, cls: type[Any], context: Context) -> bool:
        """Return whether the class is one that the twin being written may be an instance of."""
        return self.current is not None and issubclass(self.current, cls)

    def sorted_classes(self) -> list[type[Any]]:
        """Return the classes, bases before what derives from them, else in the order in which they were found."""
        found: list[type[Any]] = []
        for cls in self.classes:
            for each in reversed(cls.__mro__):
                if each in self.classes and each not in found:
                    found.append(each)
        return found

    def check_renamed(self) -> None:
        """Raise TwinError if a name was given to something that is not there."""
        known = {cls.__name__ for cls in self.classes} | {function.__name__ for function in self.functions.values()}
        known |= set(self.functions)
        for name in self.renamed:
            if name not in known:
                raise TwinError(f"--name {name}={self.renamed[name]} names nothing that gets a twin")


def twin_name(name: str) -> str:
    """Return the name of a class's twin: without its ``Async``."""
    found = re.fullmatch(r"(_*)Async(?=[A-Z])(\w+)", name) or re.fullmatch(r"(_*)(\w+)Async", name)
    return found[1] + found[2] if found else name


def is_async_class(cls: type[Any]) -> bool:
    """Return whether a class says itself that it has something async: a method, a protocol or an annotation."""
    if issubclass(cls, BaseException | enum.Enum):
        return False
    for base in cls.__mro__:
        if base is object or base.__module__ in ("typing", "abc"):
            continue
        for name, value in list(vars(base).items()):
            if name in _PROTOCOLS or (not name.startswith("_") and _says_async(value)):
                return True
    return False


def _says_async(value: Any) -> bool:
    function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
    try:
        function = inspect.unwrap(function)
    except ValueError:
        return False
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return True
    returns = return_annotation(function) if inspect.isfunction(function) else None
    if isinstance(returns, str):  # a union with something that is not awaited is not async: sync classes share it
        return bool(_ANNOTATION.match(returns)) and not isinstance(parsed(returns), ast.BinOp)
    of = typing.get_origin(returns) or returns
    known = heads.awaited_at(of) is not None or heads.is_iterated(of) or heads.is_entered(of)
    return known or (isinstance(of, type) and of.__name__.startswith("Async"))


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TwinError(f"{name!r} is no module's name: write package.module:Name")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TwinError(f"there is no module {error.name}") from None
        raise TwinError(f"{name} fails to import: {_one_line(error)}") from None
    except (Exception, SystemExit) as error:
        raise TwinError(f"{name} fails to import: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _public(module: ModuleType) -> Iterable[str]:
    named = getattr(module, "__all__", None)
    return named if named is not None else [each for each in vars(module) if not each.startswith("_")]


def _described(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"
