"""What type checkers make of bridge.ext.crochet. Checked by mypy and pyright; nothing here runs."""

from __future__ import annotations

from typing import assert_type

from twisted.internet.defer import Deferred, succeed

from bridge.ext.crochet import EventualResult, run_in_reactor, wait_for


@wait_for(timeout=5.0)
def deferred(number: int) -> Deferred[str]:
    return succeed(str(number))


@wait_for(5)
async def coroutine(number: int) -> str:
    return str(number)


@wait_for(timeout=None)
def plain(number: int) -> str:
    return str(number)


@run_in_reactor
def later(number: int) -> Deferred[str]:
    return succeed(str(number))


@run_in_reactor
def plainly(number: int) -> str:
    return str(number)


def check() -> None:
    assert_type(deferred(1), str)
    assert_type(coroutine(number=1), str)
    assert_type(plain(1), str)
    assert_type(later(1), EventualResult[str])
    assert_type(later(1).wait(5), str)
    assert_type(plainly(1).wait(timeout=5), str)
    deferred("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    later()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
