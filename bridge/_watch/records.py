"""Records of ``logging`` that must not block a loop: a thread of its own hands them to the handlers.

The handlers of ``logging`` may block, and the loop must not. Twisted's log comes this way, once that is loaded.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from time import monotonic
from typing import Protocol

from .._threads import native
from .._threads.condition import new_lock
from .._threads.latch import Latch

THREAD = "bridge-log"


class Observer(Protocol):
    """What makes records of another log while some loop of a bridge runs. The lock of the records is held."""

    def start(self) -> None:
        """Observe; does nothing if it does already."""
        ...

    def stop(self) -> None:
        """Observe no more."""
        ...


class Records:
    """The records that wait for the handlers, and their thread, which is there while some loop of a bridge runs."""

    def __init__(self) -> None:
        self._observer: Observer | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the thread, which the child has not, and the records that the parent's one will handle."""
        self._lock = new_lock()
        self._users: set[object] = set()
        self._records: SimpleQueue[logging.LogRecord | Latch | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None  # the last one that was told to end
        self._starting = native.allocate_lock()
        if self._observer is not None:
            self._observer.stop()

    def observe(self, observer: Observer) -> None:
        """Let an observer make records of another log while some loop of a bridge runs; from now on, if one does."""
        with self._lock:
            self._observer = observer
            if self._users:
                observer.start()

    def join(self, user: object) -> None:
        """Handle records in a thread, as a loop starts, until :meth:`leave`."""
        with self._lock:
            self._users.add(user)
            if self._observer is not None:
                self._observer.start()

    def leave(self, user: object) -> None:
        """Undo :meth:`join`. What was logged is handled all the same; :meth:`flush` waits for that."""
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            if self._observer is not None:
                self._observer.stop()
            if self._thread is not None:
                self._ending, self._thread = self._thread, None
                self._records.put(None)

    def handle(self, record: logging.LogRecord) -> None:
        """Let the handlers of a record's logger have it, without waiting for them while a loop runs.

        Takes no lock, since a finalizer or a signal handler may come by here, in the middle of this very method.
        """
        if not self._users:
            logging.getLogger(record.name).handle(record)
            return
        self._records.put(record)
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:  # pyright: ignore[reportUnnecessaryComparison] - others start it as well
                    thread = native.Thread(target=self._run, name=THREAD, daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:  # no more threads to be had, as while the interpreter exits (3.12 and later)
                self._records.put(None)
                self._run()
            finally:
                self._starting.release()

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            if isinstance(record, Latch):
                record.open()
                continue
            try:
                logging.getLogger(record.name).handle(record)
            except Exception:  # of a filter: what a handler raises, logging itself prints
                if logging.raiseExceptions:
                    import traceback

                    traceback.print_exc()

    def flush(self, seconds: float) -> bool:
        """Wait until the handlers have had every record so far. Return False if they had not within so many seconds."""
        if threading.current_thread().name == THREAD:
            return True
        deadline = monotonic() + seconds
        handled = Latch()  # whose opening a Ctrl-C in the wait for it cannot hold up, as it can an Event's
        ending = self._ending
        if self._thread is None:
            handled.open()
        else:
            self._records.put(handled)
        if ending is not None:
            ending.join(seconds)
        return handled.wait(max(0.0, deadline - monotonic())) and (ending is None or not ending.is_alive())


records = Records()
