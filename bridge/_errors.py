"""Every exception of ours, and the end of every message. This module imports nothing of the package.

One rule for messages: first what is wrong, then what to write instead, then the name of a section of docs/errors.md.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


def at(section: str, before: str = " ") -> str:
    """Return the end of a message, by which its section of docs/errors.md is found: ``[bridge: root-stack]``.

    :param section: the heading of the section, in lower case and with hyphens.
    :param before: what parts it from the message: a new line, if the message has several.
    """
    return f"{before}[bridge: {section}]"


class BridgeError(RuntimeError):
    """Base class of the errors that this package raises of its own accord.

    What awaited code raises is never wrapped in one of these: it comes out as the object that it is.
    """


class BridgeClosed(BridgeError):
    """The loop that a call needs was closed, was stopped, or died while the call was open.

    ``__cause__`` is the exception that ended the loop, where there was one.
    """


class DeadlockError(BridgeError):
    """The call could never end, because what it waits for needs the thread or the stack that would be waiting."""


class WrongThreadError(BridgeError):
    """A reactor was used from a thread other than the one that its loop runs in.

    ``place`` is the file and the line of the user's call that has led to the reactor; None if it is not known.
    """

    place: tuple[str, int] | None = None

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: without the frames of libraries between the user's call and the reactor.

        IPython looks for a method of this name. It has left out its own frame, which is the first.
        """
        entries: list[TracebackType] = []
        each = self.__traceback__
        while each is not None:
            entries.append(each)
            each = each.tb_next
        places = [(each.tb_frame.f_code.co_filename, each.tb_lineno) for each in entries]
        if self.place in places:
            del entries[len(places) - places[::-1].index(self.place) :]
        kept: TracebackType | None = None
        for each in reversed(entries[1:] or entries):
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
        shell: Any = sys.modules["IPython"].get_ipython()
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(self), self, kept, tb_offset=0)
        return lines


class ReactorConflict(BridgeError):
    """The reactor that should be installed or adopted is in use by someone else."""


class StrategyUnavailable(BridgeError):
    """There is no such strategy, or it cannot be used here and now; the message lists those that can."""
