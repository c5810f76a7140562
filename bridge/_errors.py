"""Every exception of ours. Nothing else lives here, and this module imports nothing of the package.

One rule for messages: first what is wrong, then what to write instead.
"""

from __future__ import annotations


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
    """A reactor was used from a thread other than the one that its loop runs in."""


class ReactorConflict(BridgeError):
    """The reactor that should be installed or adopted is in use by someone else."""


class StrategyUnavailable(BridgeError):
    """There is no such strategy, or it cannot be used here and now; the message lists those that can."""
