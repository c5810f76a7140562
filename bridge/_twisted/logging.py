"""Pass the events of Twisted's log to the logger "twisted" of ``logging``. Importing this module begins that.

Nothing is logged twice: if the program has started Twisted's logging, or sends it to ``logging`` itself, this module
passes nothing on. Before a program starts its logging, Twisted prints critical events to standard error, and keeps the
latest events for the observers that come. This module leaves the printing to ``logging``, and keeps that buffer.

An event is formatted in the thread that has logged it, since the objects that it shows may change. Another thread
passes the record to the handlers.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, cast

from twisted.logger import LogLevel, STDLibLogObserver, formatEvent, globalLogBeginner, globalLogPublisher
from twisted.python.log import PythonLoggingObserver

from .._private.abilities import lost
from .._private.rows import TWISTED_LOG
from .._watch.records import THREAD, records

_LEVELS: dict[Any, int] = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}
_logger = logging.getLogger("twisted")


class TwistedLog:
    """The observer of Twisted's log. It is registered while a loop of some bridge runs."""

    def __init__(self) -> None:
        self._beginner: Any = globalLogBeginner
        self._publisher: Any = globalLogPublisher
        self._temporary: Any = None
        self._silenced: list[Any] = []

    def start(self) -> None:
        """Observe Twisted's log, unless the program handles that log itself."""
        if self not in self._publisher._observers and not self._is_elsewhere():
            temporary = self._beginner._temporaryObserver
            # Besides the buffer there are only the observers that print critical events.
            self._silenced = [each for each in temporary._observers if each is not self._beginner._initialBuffer]
            for printer in self._silenced:
                temporary.removeObserver(printer)
            self._temporary = temporary
            self._publisher.addObserver(self)

    def stop(self) -> None:
        """Stop observing, and let Twisted print critical events again."""
        self._publisher.removeObserver(self)
        while self._silenced:
            self._temporary.addObserver(self._silenced.pop())

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of Twisted's log, in any thread."""
        if threading.current_thread().name == THREAD:  # a handler logs to Twisted: passing that on would never end
            return
        if self._is_elsewhere():  # this stays an observer: the publisher is iterating over its list of observers
            return
        level = _LEVELS.get(event.get("log_level"), logging.INFO)
        if _logger.isEnabledFor(level):
            records.handle(_record(event, level))

    def _is_elsewhere(self) -> bool:
        """Return whether the program has started Twisted's logging, or sends it to ``logging`` itself."""
        # Twisted removes its temporary observer before it adds those of the program.
        if self._beginner._temporaryObserver not in self._publisher._observers:
            return True
        for observer in list(self._publisher._observers):
            legacy = getattr(getattr(observer, "legacyObserver", None), "__self__", None)
            if isinstance(observer, STDLibLogObserver) or isinstance(legacy, PythonLoggingObserver):
                return True
        return False


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
if not lost(TWISTED_LOG):
    records.observe(twisted_log)
