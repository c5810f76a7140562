"""Name: one private name that we stand on; whether the library that is installed still has it; and the abilities."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

_ALWAYS = (0, 0)
_NEVER = (99, 0)

# What each ability is called, in a report of versions, in the demo and in errors.
SWITCHING = "block on the loop's own thread"
CONTEXTS = "keep twisted.python.context apart for each blocked stack"
FUTURES = "wait for Futures on a loop's own thread, or for many at once"
INTERRUPTS = "undo what Ctrl-C cuts off in a lock"
EXIT = "end calls and idle workers before Python joins its threads"
FORK = "let go of a parent's loop in a forked child"
SCOPES = "call from anyio's worker threads into their loop and cancel scope"
PORTALS = "wait for the calls of anyio's portals as for ours"
GEVENT = "start real worker threads in a process that gevent has patched"
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
ABILITIES = (
    *(SWITCHING, CONTEXTS, FUTURES, INTERRUPTS, EXIT, FORK, SCOPES, PORTALS, GEVENT, DEADLOCKS, REPORTS, TASKS),
    *(WAKE_UPS, EVENTS, GUIS, FOREIGN_REACTORS, REACTOR, TWISTED_LOG, DEFERREDS),
)


class Name(NamedTuple):
    """One private name, as one ability uses it.

    ``owner``: the module, and after a colon the class, that has the name.

    ``use``: "calls", "overrides", "reads" or "sets". What is read or set is an attribute of the owner or, as its
    ``__init__`` shows, of an object of that class.

    ``passed``: for "calls", how many positional arguments we pass, the object itself among them; for "overrides" the
    same for our own call of the function that is overridden.

    ``why``: what it is used for.

    ``tested``: in the versions of the library that the tests have run on.

    ``since``, ``until``: the versions of Python that the use is limited to, the latter excluded.

    ``of_loaded``: only where the module has been imported by others.
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
        """Whether this Python's version is one that the use is limited to."""
        here = self.since <= sys.version_info[:2] < self.until
        return here and (not self.of_loaded or self.owner.partition(":")[0] in sys.modules)

    def fault(self) -> str | None:
        """Return what is wrong with the name in the library that is installed, None if nothing is.

        The code object tells the parameters at a fiftieth of the cost of ``inspect.signature``. A function of C's has
        none, and is taken to be as it was.
        """
        try:
            owner = find(self.owner)
        except (ImportError, AttributeError):
            return f"{self} is missing"
        found = getattr(owner, self.name, None)
        if found is None and not hasattr(owner, self.name):
            if self.use not in ("reads", "sets") or not _sets(owner, self.name):
                return f"{self} is missing"
        elif self.passed and not _takes(found, self.passed):
            return f"{self} takes other arguments"
        return None


def find(owner: str) -> Any:
    """Return the module, or the class in a module, of that name.

    :raises ImportError: there is no such module.
    :raises AttributeError: the module has no such class.
    """
    module, _, attribute = owner.partition(":")
    found: Any = importlib.import_module(module)  # and not from sys.modules: another thread may just import it
    for each in attribute.split(".") if attribute else ():
        found = getattr(found, each)
    return found


def _sets(owner: Any, name: str) -> bool:
    """Return whether a method of a class refers to an attribute of that name: it is one of objects, then."""
    methods = (vars(each).values() for each in owner.__mro__) if isinstance(owner, type) else ()
    codes = (getattr(each, "__code__", None) for names in methods for each in names)
    return any(code is not None and name in code.co_names for code in codes)


def _takes(function: Any, passed: int) -> bool:
    """Return whether a function can be called with so many positional arguments and nothing else."""
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
    """Return whether a function has parameters beside so many positional ones, ``*args`` not counted.

    What overrides it on a hot path takes exactly the known ones while that is so, for ``**options`` would cost each
    call a dictionary.
    """
    code: Any = getattr(getattr(find(owner), name, None), "__code__", None)
    return code is not None and bool(code.co_argcount > known or code.co_kwonlyargcount or code.co_flags & 0x08)
