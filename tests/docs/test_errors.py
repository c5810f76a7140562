"""docs/errors.md: what it quotes is what the package says, and each message of the package names a section of it."""

from __future__ import annotations

import ast
import asyncio
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from documents import DOCS
from paths import ROOT

import bridge
from bridge import (
    Bridge,
    BridgeClosed,
    BridgeError,
    DeadlockError,
    StrategyUnavailable,
    WrongThreadError,
    as_deferred,
    block_on,
    blocking,
    default_bridge,
    enter,
    iterate,
    run,
    submit,
)

PAGE = (DOCS / "errors.md").read_text()
# What stands for values in a quote: they are between the package's own words.
VALUES = r"\.\.\.|; |, and |\\<.*?\\>|'\w+'|\b[\d.]+\b|\b(?:bridge|timeout|coroutine fetch)\b"
# Before this, the page quotes asyncio, Twisted, Django and gevent.
SYMPTOMS, OURS = PAGE.split("\n## BridgeClosed\n")
SECTIONS = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))

# What is constructed with a message that names a section. An AttributeError is not, as most say that there is no such
# attribute; nor a TimeoutError, which is no refusal.
CLASSES = {name for name in bridge.__all__ if isinstance(getattr(bridge, name), type) and name.endswith("Error")} | {
    *("BridgeClosed", "ReactorConflict", "StrategyUnavailable"),
    *("ReactorStopped", "ReactorAlreadyRunning", "ReactorNotRestartable"),
    *("TypeError", "ValueError", "RuntimeError", "UsageError", "_usage_error"),
}
CALLS = CLASSES | {"warn", "warning"}

ASYNCIO = "asyncio says this, and programs compare it"
HAS_ONE = "the text has its section already"
# The first words of a message without a section, or its source if it is no literal; the reason. Each is met.
WITHOUT = {
    "Event loop is closed": ASYNCIO,
    "coroutines cannot be used with run_in_executor()": ASYNCIO,
    "Task got bad yield: ": ASYNCIO,
    "Task ... got Future ... attached to a different loop": ASYNCIO,
    "yield was used instead of yield from in task ": ASYNCIO,
    "Task cannot await on itself: ": ASYNCIO,
    "The future belongs to a different loop than ": ASYNCIO,
    "a coroutine was expected, got ": ASYNCIO,
    "An asyncio.Future, a coroutine or an awaitable is required": ASYNCIO,
    "cannot wait on un-acquired lock": "threading says this",
    "cannot notify on un-acquired lock": "threading says this",
    "threads can only be started once": "threading says this",
    "Invalid return condition: ": "concurrent.futures says this",
    "... did not yield a value": "pytest says this of a fixture",
    "str(error)": f"{HAS_ONE}, or is an error of the demo's, as on the command line",
    "reason": HAS_ONE,
    "message": HAS_ONE,
    "was_stopped(sys._getframe(1))": HAS_ONE,
    "self._runs_already(sys._getframe(1))": HAS_ONE,
}


class Message(NamedTuple):
    """A message in the source: where, its text, and the section that it names."""

    place: str
    text: str
    section: str | None


@functools.cache
def trees() -> list[tuple[Path, ast.Module]]:
    """Return the modules of the package, parsed."""
    return [(path, ast.parse(path.read_text())) for path in (ROOT / "bridge").rglob("*.py")]


def said() -> str:
    """Return every text of the package's code, with "..." in the places of values."""
    texts: list[str] = []
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(_text(each) for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                texts.append(_text(node.left) + _text(node.right))
    return "\n".join(texts)


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "..."


def messages() -> Iterator[Message]:
    """Give the message of every error that the package constructs, and of every warning.

    ``python -m bridge`` is left out, but for errors of ours: its other errors are those of a command line.
    """
    for path, tree in trees():
        is_command = "_cli" in path.parts
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            if name in (CLASSES & {*bridge.__all__} if is_command else CALLS):
                text, section = _parted(node.args[0])
                yield Message(f"{path.relative_to(ROOT)}:{node.lineno}", text, section)


def _parted(node: ast.expr) -> tuple[str, str | None]:
    """Return the text of a message, and the section of its end; None for any other end."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        section = _section(node.right)
        if section is not None:
            return _parted(node.left)[0], section
        return _parted(node.left)[0] + _parted(node.right)[0], None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each) for each in node.values), None
    return (str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)), None


def _section(node: ast.AST) -> str | None:
    """Return the section that a call of at() names; None for any other code."""
    is_end = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "at"
    return str(ast.literal_eval(node.args[0])) if is_end else None  # type: ignore[attr-defined]


@functools.cache
def named() -> set[str]:
    """Return the sections that the package names, in whatever code."""
    nodes = (node for _, tree in trees() for node in ast.walk(tree))
    return {section for node in nodes if (section := _section(node)) is not None}


def short(title: str) -> str:
    """Return the address of a heading, as the site and GitHub make it."""
    return title.lower().replace(" ", "-")


def test_every_message_names_a_section_or_is_said_by_others_too() -> None:
    found = list(messages())
    assert len(found) > 150
    met: set[str] = set()
    for place, text, section in found:
        allowed = [words for words in WITHOUT if text.startswith(words)]
        assert (section is None) == bool(allowed), f"{place}: end the message by at(...): {text}"
        met.update(allowed)
    assert met == WITHOUT.keys()


def test_every_section_that_a_message_names_is_on_the_page_and_every_refusal_is_named() -> None:
    sections = {short(title) for title in SECTIONS}
    refusals = {short(title) for title in SECTIONS if f"\n### {title}\n" in OURS}
    assert named() <= sections
    assert refusals <= named()
    assert len(refusals) > 60


def test_every_section_quotes_its_own_end_of_a_message() -> None:
    for title, text in SECTIONS.items():
        ends = set(re.findall(r"\[bridge: ([^]]*)\]", text))
        assert ends == ({short(title)} & named()), title
        assert re.fullmatch(r"[a-z]+(-[a-z]+){0,3}", short(title)) or not ends, title


# Errors that are raised, by section.


def closed() -> None:
    mine = Bridge()
    mine.close()
    mine.block_on(asyncio.sleep(0))


def of_a_loop_that_does_not_run() -> None:
    loop = asyncio.new_event_loop()
    try:
        block_on(loop.create_future())
    finally:
        loop.close()


def awaited_twice() -> None:
    coroutine = asyncio.sleep(0)
    block_on(coroutine)
    block_on(coroutine)


def on_its_own_loop(function: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    async def main() -> object:
        return function(asyncio.get_running_loop())

    asyncio.run(main())


def use_a_reactor_in_this_thread() -> None:
    default_bridge().reactor.callLater(0, print)


RAISED: list[tuple[str, type[Exception], Callable[[], object]]] = [
    ("bridge-closed", BridgeClosed, closed),
    ("loop-ended", BridgeClosed, lambda: block_on(lambda: asyncio.get_running_loop().stop() or asyncio.sleep(9))),
    ("loop-of-this-thread", DeadlockError, lambda: on_its_own_loop(lambda loop: block_on(loop.create_future()))),
    ("wrong-thread", WrongThreadError, use_a_reactor_in_this_thread),
    ("no-loop-in-thread", WrongThreadError, lambda: as_deferred(asyncio.sleep(0))),
    ("no-such-strategy", StrategyUnavailable, lambda: block_on(print, strategy="telepathy")),
    ("strategy-not-here", StrategyUnavailable, lambda: block_on(asyncio.sleep(0), strategy="gevent")),
    ("awaited-before", BridgeError, awaited_twice),
    ("loop-not-running", BridgeError, of_a_loop_that_does_not_run),
    ("cannot-attach", BridgeError, Bridge.attach),
    ("nobody-waits", BridgeError, lambda: submit(bridge.in_caller(print)).result(9)),
    ("cannot-block-on", TypeError, lambda: block_on(3)),  # type: ignore[call-overload]
    ("takes-a-function", TypeError, lambda: run(3)),  # type: ignore[call-overload]
    ("takes-futures", TypeError, lambda: bridge.wait([3])),  # type: ignore[list-item]
    ("cannot-iterate-or-enter", TypeError, lambda: iterate([3])),  # type: ignore[call-overload]
    ("cannot-iterate-or-enter", TypeError, lambda: enter(3)),  # type: ignore[call-overload]
    ("nothing-async", TypeError, lambda: blocking(3)),  # type: ignore[call-overload]
    ("no-such-option", TypeError, lambda: bridge.configure(stal_after=3)),  # type: ignore[call-arg]
    ("wrong-seconds", ValueError, lambda: block_on(print, timeout=-1)),
    ("wrong-seconds", TypeError, lambda: block_on(print, timeout="1")),  # type: ignore[call-overload]
    ("wrong-value", ValueError, lambda: list(bridge.map(print, [1], limit=0))),
    ("not-a-strategy", TypeError, lambda: block_on(print, strategy=3)),  # type: ignore[call-overload]
    ("cannot-pickle", TypeError, lambda: Bridge().__reduce_ex__(2)),
]


@pytest.mark.parametrize(("section", "cls", "call"), RAISED)
def test_an_error_ends_with_its_section(section: str, cls: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(cls) as caught:
        call()
    assert str(caught.value).endswith(f"[bridge: {section}]")
    assert str(caught.value).count("[bridge:") == 1


def test_a_warning_ends_with_its_section() -> None:
    mine = Bridge()
    mine.start()
    with pytest.warns(ResourceWarning, match=r"^unclosed .*'with Bridge\(\)' \[bridge: unclosed-bridge\]$"):
        del mine


def test_what_is_quoted_is_what_the_package_says() -> None:
    texts = said()
    quotes = [re.sub(r"\[bridge: .*\]", "", each) for each in re.findall(r"^> (.*)$", OURS, re.MULTILINE)]
    assert len(quotes) > 40
    for quote in quotes:
        for part in re.split(VALUES, quote):
            words = part.strip(" ,:()")
            if len(words) > 11:
                assert words in texts, f"nothing says {words!r}, which docs/errors.md quotes in {quote!r}"


def test_every_class_of_error_has_its_part() -> None:
    classes = [name for name in bridge.__all__ if _is_error(getattr(bridge, name))]
    assert len(classes) == 6
    for name in classes:
        assert f"\n## {name}\n" in PAGE


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_every_entry_says_what_to_write_and_has_an_anchor_of_its_own() -> None:
    entries = re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    titles = [title for title, _ in entries]
    assert len(titles) == len({title.lower() for title in titles}) > 60
    for title, text in entries:
        if text not in PAGE.split("\n## Warnings in the log\n")[1]:
            assert "**What to write.**" in text, title
