"""The public names and what they take, as a snapshot: whoever changes one sees it in the diff.

To write it anew: python tests/project/test_public.py > tests/project/public.txt
"""

from __future__ import annotations

import inspect
import pydoc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import bridge

# For annotations: only functions make instances of them.
NOT_CALLED = {"Entered", "Items", "Stats"}
SNAPSHOT = Path(__file__).with_name("public.txt")


def public() -> Iterator[str]:
    for name in sorted(bridge.__all__):
        value = getattr(bridge, name)
        if not callable(value):
            yield f"{name}: {type(value).__name__}"
        elif isinstance(value, type):
            bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
            yield f"class {name}({bases})"
            members = {member: each for cls in reversed(_own(value)) for member, each in vars(cls).items()}
            if not issubclass(value, Exception):
                yield from sorted(
                    _member(member, each)
                    for member, each in members.items()
                    if not member.startswith("_") or member in ("__init__", "__enter__", "__exit__")
                    if member in dir(value)
                    if not isinstance(each, str) and not (name in NOT_CALLED and member == "__init__")
                )
        else:
            yield f"{name}{_parameters(value)}"


def _own(cls: type) -> list[type]:
    return [each for each in cls.__mro__ if each.__module__.startswith("bridge.")]


def _member(name: str, member: object) -> str:
    if isinstance(member, property):
        return f"    {name}: property"
    if inspect.ismemberdescriptor(member):
        return f"    {name}: attribute"
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    return f"    {name}{_parameters(function)}"


def _parameters(function: object) -> str:
    """Return the parameters without their annotations, which Pythons show in several ways."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_public_names_are_those_of_the_snapshot() -> None:
    assert "\n".join(public()) + "\n" == SNAPSHOT.read_text()


def test_help_and_completion_show_public_names_only() -> None:
    assert {name for name in dir(bridge) if not name.startswith("__")} - {"ext"} == set(bridge.__all__) - {
        "__version__"
    }
    (shown,) = re.findall(r"^class Bridge\(.*\n((?:    .*\n)+)", SNAPSHOT.read_text(), re.MULTILINE)
    documented = {name for name in re.findall(r"^    (\w+)[(:]", shown, re.MULTILINE) if not name.startswith("_")}
    assert {name for name in dir(bridge.Bridge("unseen")) if not name.startswith("_")} == documented
    text = pydoc.plain(pydoc.render_doc(bridge.Bridge))
    assert {
        name for name in re.findall(r"^ \|  (?:async )?([a-z]\w*)", text, re.MULTILINE) if hasattr(bridge.Bridge, name)
    } == documented


if __name__ == "__main__":
    sys.stdout.write("\n".join(public()) + "\n")
