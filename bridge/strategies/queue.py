"""Wait on a queue, as crochet and the IPython of 2008 do."""

from __future__ import annotations

import queue

from .._threads.native import patched


class QueueWaiter:
    """A queue that ``notify`` puts one item on."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait(self, timeout: float | None) -> bool:
        """Take the item."""
        try:
            self._queue.get(True, timeout)
        except queue.Empty:
            return False
        return True

    def notify(self) -> None:
        """Put the item."""
        self._queue.put(None)


class QueueStrategy:
    """Waits on a ``queue.SimpleQueue``."""

    name = "queue"

    def unavailable(self) -> str | None:
        """Return a reason in a process that gevent has patched, where the queues are for greenlets."""
        backend = patched()
        return None if backend is None else backend.REFUSAL

    def waiter(self) -> QueueWaiter:
        """Return a waiter with a queue of its own."""
        return QueueWaiter()
