"""Name: the row of one private name, and its comparison with the installed library. Also the names of the abilities."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

_ALWAYS = (0, 0)
_NEVER = (99, 0)

# The abilities, as a report of versions, the demo and errors name them.
SWITCHING = "block on the loop's own thread"
CONTEXTS = "keep twisted.python.context apart for each blocked stack"
FUTURES = "wait for Futures on a loop's own thread, or for many at once"
INTERRUPTS = "undo what Ctrl-C cuts off in a lock"
EXIT = "end calls and idle workers before Python joins its threads"
FORK = "let go of a parent's loop in a forked child"
SCOPES = "call from anyio's worker threads into their loop and cancel scope"
PORTALS = "wait for the calls of anyio's portals as for ours"
GEVENT = "start real worker threads in a process that gevent has patched"
CHILDREN = "start asyncio's child processes in a process that gevent has patched"
DEADLOCKS = "refuse a call that waits for its own thread"
REPORTS = "report what is waited for, down to the end"
TASKS = "show the user's coroutine in a task, and what it waits for"
WAKE_UPS = "be told of each wake-up once"
EVENTS = "wait on a threading.Event"
GUIS = "run a GUI while its thread waits"
FOREIGN_REACTORS = "attach to a reactor without a loop"
REACTOR = "run Twisted's reactor on the loop"
TWISTED_LOG = "hand Twisted's log to logging"
DEFERREDS = "count an error of a Deferred as handled once it was raised"
AWAITS = "await Deferreds in every asyncio task"
TESTS = "lend the loop of the tests to anyio's pytest plugin"
PYTHON_TASKS = "await Deferreds in tasks that are written in Python"
ABILITIES = (
    *(SWITCHING, CONTEXTS, FUTURES, INTERRUPTS, EXIT, FORK, SCOPES, PORTALS, GEVENT, CHILDREN, DEADLOCKS, REPORTS),
    *(TASKS, WAKE_UPS, EVENTS, GUIS, FOREIGN_REACTORS, REACTOR, TWISTED_LOG, DEFERREDS, AWAITS, PYTHON_TASKS, TESTS),
)


class Name(NamedTuple):
    """One private name, as one ability uses it.

    ``owner``: the module that has the name; for a name in a class, "module:Class".

    ``use``: "calls", "overrides", "reads" or "sets". An attribute that is read or set may belong to the owner itself or
    to objects of that class, for instance if its ``__init__`` sets it.

    ``passed``: the number of positional arguments that we pass, including the object itself. For "overrides" this is
    our own call of the overridden function.

    ``why``: the purpose.

    ``tested``: the versions of the library that the tests have run on.

    ``since``, ``until``: the versions of Python that use the name; ``until`` is excluded.

    ``of_loaded``: compare the name only if other code has imported the module.
    """

    owner: str
    name: str
    use: str
    ability: str
    why: str
    passed: int = 0
    tested: str = ""
    since: tuple[int, int] = _ALWAYS
    until: tuple[int, int] = _NEVER
    of_loaded: bool = False

    def __str__(self) -> str:
        module, _, attribute = self.owner.partition(":")
        return f"{attribute or module}.{self.name}"

    @property
    def is_used(self) -> bool:
        """Whether the name is used on this version of Python, and with the modules that are loaded."""
        here = self.since <= sys.version_info[:2] < self.until
        return here and (not self.of_loaded or self.owner.partition(":")[0] in sys.modules)

    def fault(self) -> str | None:
        """Return the fault of the name in the installed library; None if it has no fault.

        The parameters are read from the code object, at a fiftieth of the cost of ``inspect.signature``. A function in
        C has no code object, and is taken to be unchanged.
        """
        try:
            owner = find(self.owner)
        except (ImportError, AttributeError):
            return f"{self} is missing"
        found = getattr(owner, self.name, None)
        if found is None and not hasattr(owner, self.name):
            if self.use not in ("reads", "sets") or not _objects_have(owner, self.name):
                return f"{self} is missing"
        elif self.passed and not _accepts(found, self.passed):
            return f"{self} takes other arguments"
        return None


def find(owner: str) -> Any:
    """Return the module or class that ``owner`` names: "module" or "module:Class".

    :raises ImportError: there is no such module.
    :raises AttributeError: the module has no such class.
    """
    module, _, attribute = owner.partition(":")
    found: Any = importlib.import_module(module)  # not from sys.modules: another thread may still be importing it
    for each in attribute.split(".") if attribute else ():
        found = getattr(found, each)
    return found


def _objects_have(owner: Any, name: str) -> bool:
    """Return whether a method of the class uses an attribute of that name, which its objects then have."""
    methods = (vars(each).values() for each in owner.__mro__) if isinstance(owner, type) else ()
    codes = (getattr(each, "__code__", None) for names in methods for each in names)
    return any(code is not None and name in code.co_names for code in codes)


def _accepts(function: Any, passed: int) -> bool:
    """Return whether a function can be called with exactly ``passed`` positional arguments."""
    code = getattr(function, "__code__", None)
    if code is None:
        return True
    defaults = len(function.__defaults__ or ())
    if not code.co_argcount - defaults <= passed:
        return False
    if passed > code.co_argcount and not code.co_flags & 0x04:  # it has no *args
        return False
    return bool(code.co_kwonlyargcount <= len(function.__kwdefaults__ or ()))


def takes_more(owner: str, name: str, known: int) -> bool:
    """Return whether a function has parameters besides ``known`` positional ones. ``*args`` does not count.

    If it has none, an override on a hot path takes exactly the known ones: ``**options`` would cost each call a
    dictionary.
    """
    code: Any = getattr(getattr(find(owner), name, None), "__code__", None)
    return code is not None and bool(code.co_argcount > known or code.co_kwonlyargcount or code.co_flags & 0x08)
