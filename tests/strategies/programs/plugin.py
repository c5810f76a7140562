"""The module of a distribution that declares a strategy."""

from bridge.strategies.lock import LockWaiter


class Declared:
    name = "declared"

    def unavailable(self):
        return None

    def waiter(self):
        return LockWaiter()
