"""Put a file together: find every class that needs a twin, then write them, with the imports that they take."""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.metadata
import keyword
import re
import sys
from typing import Any

from ... import Bridge
from . import support
from .classes import Classes, original_name
from .context import Context
from .functions import Functions
from .layout import Layout
from .members import function_of, members, own_context
from .names import Names, as_linters_sort, names_in
from .plan import Plan
from .source import Scope, Target, TwinError, imported, module_of
from .types import Types


def written(plan: Plan, command: str, version: str, bridge: str | None, layout: Layout) -> str:
    """Return the text of the file.

    :param command: the command line, for the head.
    :param version: the version of this package.
    :param bridge: the library's own bridge, as ``package.module:name``; None for the default bridge.
    """
    _find_all(plan, layout)
    plan.check_renamed()
    names = Names(plan.package, _taken(plan))
    own = _own_bridge(bridge, names)
    parts = _parts(plan, names, layout)
    twins = {original_name(cls, names): name for cls, name in plan.classes.items()}
    code = "\n".join(line for part in parts for line in part)
    variables, helpers = support.written(code, twins, names, layout)
    body = _body(plan, [*names.variables.values(), *variables], [*parts, helpers[1:]], layout)
    used = names_in("\n".join([*body, *own]))
    if names.imports(used)[1]:
        used.add(names.of("typing", "TYPE_CHECKING"))
    runtime, typing_only = names.imports(used)
    if own:
        runtime = [each for each in map(_without_verbs, runtime) if each]
    inherits = any(base in plan.classes for cls in plan.classes for base in cls.__mro__[1:])
    quiet = (
        ["reportIncompatibleVariableOverride"] * inherits
        + ["reportPrivateUsage"] * names.uses_private
        + ["reportDeprecated"] * ("deprecated(" in code)
    )
    lines = [*_head(plan, command, version, quiet), "from __future__ import annotations", ""]
    lines += _imports(runtime, plan.package, layout)
    if typing_only:
        indented = [f"    {each}" if each else "" for each in _imports(typing_only, plan.package, layout)]
        lines += ["", "if TYPE_CHECKING:", *indented]
    text = "\n".join([*lines, *own, *body]) + "\n"
    ast.parse(text)
    return text


def _body(plan: Plan, assigned: list[str], parts: list[list[str]], layout: Layout) -> list[str]:
    """Return the lines after the imports."""
    public = [each for each in (*plan.classes.values(), *plan.functions) if not each.startswith("_")]
    lines: list[str] = []
    if public:
        lines += ["", "__all__ = [", *(f'    "{each}",' for each in sorted(public, key=as_linters_sort)), "]"]
    code = "\n".join(line for part in parts for line in part)
    assigned = [each for each in sorted(assigned) if re.search(rf"\b{each.partition(':')[0].split()[0]}\b", code)]
    if assigned:
        lines += ["", *(line for each in assigned for line in layout.statement(0, each))]
    for part in filter(None, parts):
        lines += ["", "", *part]
    return lines


def _find_all(plan: Plan, layout: Layout) -> None:
    """Write every twin once, for nothing, by which those of what they return are found."""
    names = Names(plan.package, set())
    types = Types(names, plan)
    functions = Functions(types, layout)
    classes = Classes(types, functions, plan.classes)
    for name, function in list(plan.functions.items()):
        functions.lines(function_of(name, function), 0, name)
    done: set[type[Any]] = set()
    while more := [cls for cls in plan.classes if cls not in done]:
        for cls in more:
            plan.current = cls
            classes.lines(cls)
            done.add(cls)
    plan.current = None


def _parts(plan: Plan, names: Names, layout: Layout) -> list[list[str]]:
    types = Types(names, plan)
    functions = Functions(types, layout)
    classes = Classes(types, functions, plan.classes)
    parts: list[list[str]] = []
    for cls in plan.sorted_classes():
        plan.current = cls
        parts.append(classes.lines(cls))
    plan.current = None
    for name, function in list(plan.functions.items()):
        member = function_of(name, function)
        target = names.use(Target(function.__module__, function.__name__))
        parts.append(functions.lines(member, 0, target))
    return parts


def _taken(plan: Plan) -> set[str]:
    """Return the names that mean something in the file besides what it imports."""
    taken = {*plan.classes.values(), *plan.functions, *support.HELPERS, *keyword.kwlist}
    types = Types(Names("", set()), plan)
    for cls in plan.classes:
        context = own_context(cls, Context(Scope(module_of(cls.__module__))))
        for member in members(cls, context, types, set()):
            taken.add(member.name)
            for node in (member.node, *member.overloads):
                taken |= _parameters(node)
    for name, function in plan.functions.items():
        taken |= _parameters(function_of(name, function).node)
    return {each for each in taken if not (each.startswith("__") and each.endswith("__"))}


def _parameters(node: Any) -> set[str]:
    """Return the names of parameters, but those of builtins: only members hide a builtin from annotations."""
    walked = ast.walk(node.args) if node is not None else ()
    found = {each.arg for each in walked if isinstance(each, ast.arg)}
    return {each for each in found if not hasattr(builtins, each)}


def _own_bridge(bridge: str | None, names: Names) -> list[str]:
    """Return the lines that take the verbs from the library's own bridge; none for the default bridge."""
    if bridge is None:
        return []
    module, _, name = bridge.partition(":")
    if not isinstance(getattr(imported(module), name or " ", None), Bridge):
        raise TwinError(f"there is no bridge {bridge}: write package.module:name, of a bridge.Bridge")
    own = names.use(Target(module, name))
    return ["", *(f"{names.of('bridge', verb)} = {own}.{verb}" for verb in ("blocking", "enter", "iterate"))]


def _head(plan: Plan, command: str, version: str, switched_off: list[str]) -> list[str]:
    lines = [f'"""Sync twins of {plan.package}, over its async classes and functions."""', ""]
    lines += [f"# Made from {plan.package} {_version_of(plan.package)} by bridge {version}:", f"# {command}"]
    lines += ["# Do not edit: change the library, and run the command again."]
    lines += [f"# pyright: {each}=false" for each in switched_off]
    return [*lines, ""]


def _version_of(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    distributions = importlib.metadata.packages_distributions().get(package, [])  # which reads every one's files
    return importlib.metadata.version(distributions[0]) if distributions else "(without a version)"


def _imports(lines: list[str], package: str, layout: Layout) -> list[str]:
    """Return the imports in the groups of linters: those of the standard library, others, and the library itself."""
    groups: list[list[str]] = [[], [], []]
    for line in lines:
        top = line.split()[1].partition(".")[0]
        groups[0 if top in sys.stdlib_module_names else 2 if top == package else 1].append(line)
    found: list[str] = []
    for group in filter(None, groups):
        broken = [part for line in group for part in layout.imports(line)]
        found += ["", *broken] if found else broken
    return found


def _without_verbs(line: str) -> str:
    """Return an import without the verbs, which are those of the library's own bridge."""
    head, _, names = line.partition(" import ")
    if head != "from bridge":
        return line
    kept = [each for each in names.split(", ") if each.split()[0] not in ("blocking", "enter", "iterate")]
    return f"{head} import {', '.join(kept)}" if kept else ""
