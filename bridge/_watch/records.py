"""Passes records of ``logging`` to their handlers in a thread of its own, so that a handler cannot block the loop.

The records of Twisted's log come this way too, once Twisted is loaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from queue import Empty
from time import monotonic
from typing import Any, NamedTuple, Protocol

from .._threads import native
from .._threads.latch import Latch
from .._threads.native import new_lock

THREAD = "bridge-log"
# Seconds in which occurrences of the same kind are gathered for one record.
_GATHER = 0.1


class Observer(Protocol):
    """Makes records of another log while a loop of some bridge runs. Called with the lock of Records held."""

    def start(self) -> None:
        """Start to observe. Does nothing if it observes already."""
        ...

    def stop(self) -> None:
        """Stop observing."""
        ...


class Repeatable(NamedTuple):
    """What may occur many times at once, and then is logged as one record."""

    key: Hashable  # that all occurrences share
    record: Callable[[int], logging.LogRecord]  # the record for so many occurrences


class Records:
    """The queue of records, and the thread that handles them. The thread lives while a loop of some bridge runs."""

    def __init__(self) -> None:
        self._observer: Observer | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """After a fork: forget the thread, which the child lacks, and the records, which the parent handles."""
        self._lock = new_lock()
        self._users: set[object] = set()
        # A queue for threads also where gevent has patched the process: a record may come from any thread.
        self._records: Any = native.original("queue", "SimpleQueue")()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None  # the last thread that was told to end
        self._starting = native.allocate_lock()
        if self._observer is not None:
            self._observer.stop()

    def observe(self, observer: Observer) -> None:
        """Set the observer of another log. It is started now if a loop of some bridge runs, else with the next loop."""
        with self._lock:
            self._observer = observer
            if self._users:
                observer.start()

    def join(self, user: object) -> None:
        """Handle records in the thread until :meth:`leave`. Called as a loop starts."""
        with self._lock:
            self._users.add(user)
            if self._observer is not None:
                self._observer.start()

    def leave(self, user: object) -> None:
        """Undo :meth:`join`. Queued records are still handled; :meth:`flush` waits for that."""
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            if self._observer is not None:
                self._observer.stop()
            if self._thread is not None:
                self._ending, self._thread = self._thread, None
                self._records.put(None)

    def handle(self, record: logging.LogRecord | Repeatable) -> None:
        """Pass a record to the handlers of its logger. While a loop runs this only queues it.

        Takes no lock: a finalizer or a signal handler may call it while the same thread is inside it.
        """
        if not self._users:
            record = record.record(1) if isinstance(record, Repeatable) else record
            logging.getLogger(record.name).handle(record)
            return
        self._records.put(record)
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:  # pyright: ignore[reportUnnecessaryComparison] - other threads start it too
                    thread = native.Thread(target=self._run, name=THREAD, daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:  # no new threads, as at the interpreter's exit (from 3.12 on)
                self._records.put(None)
                self._run()
            finally:
                self._starting.release()

    def _run(self) -> None:
        gathered: dict[Hashable, list[Repeatable]] = {}
        deadline = 0.0
        while True:
            try:
                item = self._records.get(timeout=max(0.0, deadline - monotonic()) if gathered else None)
            except Empty:
                _log_gathered(gathered)
                continue
            if isinstance(item, Repeatable):
                if not gathered:
                    deadline = monotonic() + _GATHER
                gathered.setdefault(item.key, []).append(item)
                continue
            _log_gathered(gathered)
            if item is None:
                return
            if isinstance(item, Latch):
                item.open()
            else:
                _log(item)

    def flush(self, seconds: float) -> bool:
        """Wait until the records so far are handled. Return False on time-out, after so many seconds."""
        if threading.current_thread().name == THREAD:
            return True
        deadline = monotonic() + seconds
        handled = Latch()  # not an Event: after a Ctrl-C in its wait(), set() may hang
        ending = self._ending
        if self._thread is None:
            handled.open()
        else:
            self._records.put(handled)
        if ending is not None:
            ending.join(seconds)
        return handled.wait(max(0.0, deadline - monotonic())) and (ending is None or not ending.is_alive())


def _log(record: logging.LogRecord) -> None:
    try:
        logging.getLogger(record.name).handle(record)
    except Exception:  # from a filter: logging itself prints the errors of handlers
        if logging.raiseExceptions:
            import traceback

            traceback.print_exc()


def _log_gathered(gathered: dict[Hashable, list[Repeatable]]) -> None:
    for same in gathered.values():
        _log(same[0].record(len(same)))
    gathered.clear()


records = Records()
