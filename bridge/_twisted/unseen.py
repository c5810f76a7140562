"""The failures in Twisted's log, as they are logged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher


def observe_failures(take: Callable[[str, str, Any], object]) -> Callable[[], object]:
    """Call ``take(namespace, text, failure)`` for each failure that is logged. Return a function that ends this."""

    def observe(event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            take(str(event.get("log_namespace")), formatEvent(event), failure)

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    return partial(publisher.removeObserver, observe)
