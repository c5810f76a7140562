"""The helpers that a written file has at its end: those that its code calls."""

from __future__ import annotations

import re

from .layout import Layout, split_at
from .names import Names

_TEXTS = {
    "_twin": '''
def _twin(kind: type[_T], original: object, own: {Any} = None) -> _T:
    """Return the twin of an async object: ``own`` if it is that one's, else a new one."""
    twin: {Any} = None
    if own is not None and own._async is original:
        twin = own
    elif original is not None:
        cls: {Any} = getattr(kind, "__origin__", kind)
        bases = type(original).__mro__
        found = next((_TWINS[each] for each in bases if each in _TWINS), cls)
        twin = object.__new__(cls if issubclass(cls, found) else found)
        twin._async = original
    result: _T = twin
    return result
''',
    "_any": '''
def _any(value: {Any}) -> {Any}:
    """Return the twin of an async object whose class has one; anything else as it is."""
    original = getattr(value, "__wrapped__", value)  # a sync view's
    bases = type(original).__mro__
    found = next((_TWINS[each] for each in bases if each in _TWINS), None)
    return value if found is None else _twin(found, original)
''',
    "_given": '''
def _given(**arguments: {Any}) -> dict[str, {Any}]:
    """Return those arguments that are given."""
    return {{name: each for name, each in arguments.items() if each is not _OMITTED}}
''',
    "_defaults": '''
@{cache}
def _defaults(function: {Any}) -> dict[str, {Any}]:
    """Return the defaults of a function's parameters."""
    return {{name: each.default for name, each in {signature}(function).parameters.items()}}
''',
    "_changed": '''
def _changed(function: {Any}, /, **arguments: {Any}) -> dict[str, {Any}]:
    """Return those arguments that are not the defaults, for a decorator that looks at them."""
    defaults = _defaults(getattr(function, "__func__", function))
    return {{name: each for name, each in arguments.items() if each is not defaults[name]}}
''',
    "_original": '''
def _original(value: {Any}) -> {Any}:
    """Return the async object of a twin; anything else as it is."""
    known: {Any} = value
    return known._async if isinstance(value, tuple(_TWINS.values())) else value
''',
    "_items": '''
async def _items(make: {Callable}[[], {AsyncIterable}[_T]]) -> {AsyncGenerator}[_T, None]:
    """Yield the items of an async iterable that is made on the loop's thread."""
    items = make()
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, {AsyncGenerator}):
            await items.aclose()
''',
    "_each": '''
async def _each(
    make: {Callable}[[], {AsyncIterable}[_A]], convert: {Callable}[[_A], _T]
) -> {AsyncGenerator}[_T, None]:
    """Yield the items of an async iterable, each converted."""
    items = make()
    try:
        async for item in items:
            yield convert(item)
    finally:
        if isinstance(items, {AsyncGenerator}):
            await items.aclose()
''',
    "_entered": '''
@{asynccontextmanager}
async def _entered(
    make: {Callable}[[], {AbstractAsyncContextManager}[_A, bool | None]],
    convert: {Callable}[[_A], _T],
) -> {AsyncGenerator}[_T, None]:
    """Enter an async context manager, and convert its value."""
    async with make() as value:
        yield convert(value)
''',
    "_enter": '''
def _enter(twin: object, entered: {Entered}[_T]) -> _T:
    """Enter, and keep what ``_exit`` leaves: several threads may be inside."""
    value = entered.__enter__()
    vars(twin).setdefault("_blocks", []).append(({get_ident}(), entered))
    return value
''',
    "_exit": '''
def _exit(
    twin: object,
    exc_type: type[BaseException] | None,
    exc: BaseException | None,
    traceback: {TracebackType} | None,
) -> bool | None:
    """Leave this thread's innermost ``with`` block; else the last one of any thread."""
    blocks: list[tuple[int, {Entered}[{Any}]]] = vars(twin).get("_blocks", [])
    if not blocks:
        raise RuntimeError(f"{{twin!r}} was not entered; use it in a 'with' statement")
    here = [at for at, block in enumerate(blocks) if block[0] == {get_ident}()]
    return blocks.pop(here[-1] if here else -1)[1].__exit__(exc_type, exc, traceback)
''',
    "_kept": '''
def _kept(twin: object, items: {Items}[_T]) -> {Items}[_T]:
    """Return the items that the twin iterates over already; else these, from now on."""
    kept: {Items}[_T] = vars(twin).setdefault("_items", items)
    return kept
''',
}

_HOMES = {
    "Any": "typing",
    "AsyncGenerator": "collections.abc",
    "AsyncIterable": "collections.abc",
    "Callable": "collections.abc",
    "AbstractAsyncContextManager": "contextlib",
    "asynccontextmanager": "contextlib",
    "Entered": "bridge",
    "Items": "bridge",
    "TracebackType": "types",
    "cache": "functools",
    "get_ident": "threading",
    "signature": "inspect",
}

HELPERS = {*_TEXTS, "_OMITTED", "_TWINS", "_T", "_A", "_async"}


def written(code: str, twins: dict[str, str], names: Names, layout: Layout) -> tuple[list[str], list[str]]:
    """Return the lines of the type variables of those helpers that the code calls, and those of the helpers.

    :param twins: the name of each twin, by the name of its class.
    """
    every = {each for each in _TEXTS if re.search(rf"\b{each}\(", code)}
    every |= {"_twin"} if "_any" in every else set()
    every |= {"_defaults"} if "_changed" in every else set()
    every |= {"_given"} if "_OMITTED" in code else set()
    texts = [_TEXTS[each] for each in _TEXTS if each in every]
    used = "".join(texts)
    given = {name: names.of(home, name) for name, home in _HOMES.items() if f"{{{name}}}" in used}
    lines = [line for text in texts for line in ("", *_laid_out(text.format(**given), layout))]
    variables = [each for each in ("_A", "_T") if re.search(rf"\b{each}\b", used)]
    variables = [f'{each} = {names.of("typing", "TypeVar")}("{each}")' for each in variables]
    if "_given" in every:
        variables.append(f"_OMITTED: {names.of('typing', 'Any')} = object()  # an argument that is not given")
    if "_TWINS" in used:
        any_class = f"type[{names.of('typing', 'Any')}]"
        lines += ["", "", f"_TWINS: dict[{any_class}, {any_class}] = {{"]
        lines += [*(f"    {cls}: {name}," for cls, name in twins.items()), "}"]
    return variables, lines[1:] if lines and not lines[0] else lines


def _laid_out(text: str, layout: Layout) -> list[str]:
    """Return the lines of a helper, its signature broken as the rest of the file."""
    lines: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        if lines and lines[-1].startswith(("def ", "async def ")) and not lines[-1].endswith(":"):
            lines[-1] += line.strip() if lines[-1].endswith("(") or line.startswith(")") else f" {line.strip()}"
            if line.startswith(")"):
                whole = lines.pop()
                head, _, rest = whole.partition("(")
                inner, _, tail = rest.rpartition(") -> ")
                parameters = [each for each in split_at(inner, ",") if each]
                lines += layout.definition(0, head, parameters, f" -> {tail}")
        else:
            lines.append(line)
    return lines
