"""When Deferred.__await__ is replaced and when it is not; the argument is the case."""

import asyncio
import logging
import sys
from typing import Any

import bridge


async def awaits() -> Any:
    from twisted.internet.defer import Deferred

    deferred: Deferred[str] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.callback, "value")
    return await deferred


def works() -> bool:
    """Return whether a task of asyncio's own loop awaits a Deferred. If not, the other ways do."""
    try:
        assert asyncio.run(awaits()) == "value"
    except RuntimeError as error:
        if "Task got bad yield: <Deferred" not in str(error):
            raise
        return False
    return True


async def by_future() -> Any:
    from twisted.internet.defer import Deferred

    deferred: Deferred[str] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.callback, "value")
    return await bridge.as_future(deferred), bridge.block_on(deferred)


def off(each: bridge.Bridge) -> bool:
    with each:
        assert each.block_on(by_future()) == ("value", "value")
        return not works()


def main(case: str) -> bool:
    if case == "by Bridge":
        import twisted.internet.defer as defer

        own = defer.Deferred.__await__
        is_off = off(bridge.Bridge(await_deferreds=False)) and defer.Deferred.__await__ is own
        with bridge.Bridge() as each:
            each.block_on(asyncio.sleep(0))
        return is_off and works()
    if case == "by configure":
        bridge.configure(await_deferreds=False)
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            assert runner.run(by_future()) == ("value", "value")
        is_off = off(bridge.Bridge())
        with bridge.Bridge(await_deferreds=True) as each:
            return is_off and bool(each.block_on(awaits()) == "value")
    if case == "changed":
        from twisted.internet.defer import Deferred

        def of_tomorrow(self: Any) -> Any:
            yield "something else"

        Deferred.__await__ = Deferred.__iter__ = of_tomorrow  # type: ignore[method-assign, assignment]
        told: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("bridge").addHandler(handler)
        for _ in range(2):
            with bridge.Bridge() as each:
                each.block_on(asyncio.sleep(0))
        assert len(told) == 1, told
        assert "yields another object than the Deferred. Write 'await bridge.as_future(deferred)'" in told[0]
        return Deferred.__await__ is of_tomorrow
    if case == "late":
        with bridge.Bridge(install_reactor=False) as each:
            each.block_on(asyncio.sleep(0))
            assert "twisted" not in sys.modules
            return bool(each.block_on(awaits()) == "value") and works()
    assert case == "attached"

    async def attached() -> Any:
        each = bridge.Bridge.attach()
        assert "twisted" not in sys.modules
        try:
            return await awaits(), await asyncio.to_thread(each.block_on, awaits())
        finally:
            each.close()

    return bool(asyncio.run(attached()) == ("value", "value"))


if __name__ == "__main__":
    print("as expected" if main(sys.argv[1]) else "not as expected")
