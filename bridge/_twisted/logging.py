"""Twisted's log, as records of the standard ``logging``, to the logger "twisted"; and records that must not block.

A program that has started Twisted's logging itself, or sends it to ``logging`` itself, is left alone: nothing is logged
twice. While it has not, Twisted prints critical events to standard error, and keeps the latest events for whoever
starts its logging; here the former is done by ``logging``, and the latter goes on.

The handlers of ``logging`` may block, and the loop must not. So an event is formatted where it arises, for what it
shows may change, and a thread hands the record to the handlers.
"""

from __future__ import annotations

import logging
import threading
import traceback
from queue import SimpleQueue
from time import monotonic
from typing import Any, cast

from twisted.logger import LogLevel, STDLibLogObserver, formatEvent, globalLogBeginner, globalLogPublisher
from twisted.python.log import PythonLoggingObserver

from .._private.abilities import lost
from .._private.rows import TWISTED_LOG
from .._threads import native
from .._threads.condition import new_lock
from .._threads.latch import Latch

_LEVELS: dict[Any, int] = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}
_logger = logging.getLogger("twisted")


class TwistedLog:
    """The observer of Twisted's log, which is there while some loop of a bridge runs."""

    def __init__(self) -> None:
        self._beginner: Any = globalLogBeginner
        self._publisher: Any = globalLogPublisher
        self._temporary: Any = None
        self._silenced: list[Any] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the thread, which the child has not, and the records that the parent's one will handle."""
        self._lock = new_lock()
        self._users: set[object] = set()
        self._records: SimpleQueue[logging.LogRecord | Latch | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None  # the last one that was told to end
        self._starting = native.allocate_lock()
        self._stop_observing()

    def join(self, user: object) -> None:
        """Observe, as a loop starts, until :meth:`leave`."""
        if lost(TWISTED_LOG):
            return
        with self._lock:
            self._users.add(user)
            if self not in self._publisher._observers and not self._is_elsewhere():
                temporary = self._beginner._temporaryObserver
                # Beside the buffer there is what prints critical events.
                self._silenced = [each for each in temporary._observers if each is not self._beginner._initialBuffer]
                for printer in self._silenced:
                    temporary.removeObserver(printer)
                self._temporary = temporary
                self._publisher.addObserver(self)

    def leave(self, user: object) -> None:
        """Undo :meth:`join`. What was logged is handled all the same; :meth:`flush` waits for that."""
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            self._stop_observing()
            if self._thread is not None:
                self._ending, self._thread = self._thread, None
                self._records.put(None)

    def _stop_observing(self) -> None:
        self._publisher.removeObserver(self)
        while self._silenced:
            self._temporary.addObserver(self._silenced.pop())

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of Twisted's log, in any thread."""
        if threading.current_thread().name == _THREAD:  # a handler that logs to Twisted: it would go round in a circle
            return
        if self._is_elsewhere():  # and stays: the publisher goes through its very list of observers just now
            return
        level = _LEVELS.get(event.get("log_level"), logging.INFO)
        if _logger.isEnabledFor(level):
            self.handle(_record(event, level))

    def _is_elsewhere(self) -> bool:
        """Return whether the program has started Twisted's logging, or sends it to ``logging`` itself."""
        if self._beginner._temporaryObserver not in self._publisher._observers:  # it goes before the others come
            return True
        for observer in list(self._publisher._observers):
            legacy = getattr(getattr(observer, "legacyObserver", None), "__self__", None)
            if isinstance(observer, STDLibLogObserver) or isinstance(legacy, PythonLoggingObserver):
                return True
        return False

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
                    thread = native.Thread(target=self._run, name=_THREAD, daemon=True)
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
                    traceback.print_exc()

    def flush(self, seconds: float) -> bool:
        """Wait until the handlers have had every record so far. Return False if they had not within so many seconds."""
        if threading.current_thread().name == _THREAD:
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


_THREAD = "bridge-log"


def _record(event: dict[str, Any], level: int) -> logging.LogRecord:
    failure: Any = event.get("log_failure")
    error = None if failure is None else (failure.type, failure.value, failure.getTracebackObject())
    namespace = str(event.get("log_namespace", "twisted"))
    text = cast(Any, formatEvent)(event)
    record = _logger.makeRecord("twisted", level, namespace, 0, text, (), error, None, {"log_namespace": namespace})
    created = event.get("log_time")
    if isinstance(created, float):
        record.created, record.msecs = created, created % 1 * 1000.0
    return record


twisted_log = TwistedLog()
