"""What differs in a process that gevent has patched: :func:`bridge._threads.native.patched` returns this module there.

There ``threading.Thread`` starts a greenlet, ``get_ident()`` identifies greenlets, locks block greenlets and
``selectors.DefaultSelector`` waits in gevent's hub. A greenlet takes the place of a thread, so what blocks should block
the greenlet only. Our loop, its workers and its watchdog need native threads and the original functions all the same,
which gevent keeps.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any

from .native import get_ident, original, start_new_thread

REFUSAL = (
    "gevent has patched this process, and what it waits on is for greenlets now; leave the strategy out, or write "
    "strategy='gevent'"
)

_LOOK = 0.002  # seconds
_ours: set[int] = set()  # the identifiers of our native threads


def wait_until(is_so: Callable[[], bool], timeout: float | None) -> bool:
    """Poll a condition until it is true. Return False on time-out. Blocks the greenlet only.

    gevent's events raise an error where the hub has nothing else to wait for: it takes that for a deadlock. Polling is
    cheap enough for the start and the end of threads, which is what this is for.

    :param timeout: seconds; None waits for ever.
    """
    deadline = inf if timeout is None else monotonic() + timeout
    gevent: Any = importlib.import_module("gevent")
    # The hub, in which signal handlers run, cannot switch to itself.
    without_hub = get_ident() in _ours or gevent.getcurrent() is gevent.get_hub()
    sleep = original("time", "sleep") if without_hub else gevent.sleep
    while not is_so() and monotonic() < deadline:
        sleep(_LOOK)
    return is_so()


def new_simple_queue() -> Any:
    """Return a queue for threads: of the class in C, which gevent does not patch."""
    return importlib.import_module("_queue").SimpleQueue()


class NativeThread:
    """Runs the ``run()`` of a Thread in a native thread, past gevent's patched ``start()``."""

    def __init__(self, thread: threading.Thread) -> None:
        self.ident: int | None = None
        self.is_over = False
        self._thread = thread

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: the system can start no more threads.
        """
        start_new_thread(self._run, ())

    def _run(self) -> None:
        self.ident = get_ident()
        _ours.add(self.ident)
        try:
            self._thread.run()
        except SystemExit:
            pass
        except BaseException as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))
        finally:
            _ours.discard(self.ident)
            self.is_over = True

    def join(self, timeout: float | None) -> None:
        """Wait until the thread has ended.

        :param timeout: seconds; None waits for ever.
        """
        wait_until(lambda: self.is_over, timeout)
