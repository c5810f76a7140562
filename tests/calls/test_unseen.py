"""The errors of submitted work that nobody asks for are logged, one record for each kind."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolated import isolated
from paths import ENVIRONMENT

import bridge as package
from bridge import Bridge
from bridge._watch.records import records

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as made:
        yield made


async def fails(error: BaseException) -> None:
    raise error


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    gc.collect()
    assert records.flush(5)
    return [each.getMessage().split("\n")[0] for each in caplog.records]


def test_failures_of_one_kind_are_one_record(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    futures = [bridge.submit(fails(LookupError(number))) for number in range(50)]
    package.wait(futures)
    del futures
    assert logged(caplog) == [
        "submit(coroutine fails) failed 50 times with LookupError, and nobody asked its Future for the error; "
        "it was called at:"
    ]
    record = caplog.records[0]
    assert "bridge.submit(fails(LookupError(number)))" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_failures_of_two_kinds_or_places_are_two_records(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    futures = [bridge.submit(fails(error)) for error in (LookupError(), LookupError(), ValueError())]
    futures.append(bridge.submit(fails(LookupError())))
    package.wait(futures)
    del futures
    assert sorted(each.split(",")[0] for each in logged(caplog)) == [
        "submit(coroutine fails) failed",
        "submit(coroutine fails) failed",
        "submit(coroutine fails) failed 2 times with LookupError",
    ]


def test_one_failure_is_logged_without_waiting_for_others(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    package.wait([bridge.submit(fails(LookupError()))])
    assert logged(caplog) == [
        "submit(coroutine fails) failed, and nobody asked its Future for the error; it was called at:"
    ]


def test_a_record_between_them_keeps_its_place(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        package.wait([bridge.submit(fails(LookupError()))])
        gc.collect()
        records.handle(logging.makeLogRecord({"name": "another", "levelno": logging.ERROR, "msg": "between"}))
    texts = [each.split(",")[0] for each in logged(caplog)]
    assert texts == ["submit(coroutine fails) failed", "between"] * 2


def test_cancelled_work_is_no_failure(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    """As with asyncio: a library that closes cancels its own Futures."""

    async def waits_for_a_future_that_is_cancelled() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        await future

    package.wait([bridge.submit(waits_for_a_future_that_is_cancelled())])
    assert logged(caplog) == []


@pytest.mark.process
def test_work_that_fails_as_the_process_ends_is_logged_once() -> None:
    """Some fails before the exit, some while the loop ends, when their calls have failed with BridgeClosed."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", PROGRAMS / "fails_at_exit.py", "300"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    heads = [line for line in ended.stderr.splitlines() if line.startswith("submit(")]
    assert 1 <= len(heads) <= 3, ended.stderr
    counts = [int(line.split(" times")[0].split()[-1]) if " times" in line else 1 for line in heads]
    assert sum(counts) == int(ended.stdout), ended.stderr
    assert "never retrieved" not in ended.stderr


@isolated(stderr=r"submit\(function .*begin\) failed 20 times with LookupError, as its loop ended; .*LookupError: late")
def test_deferreds_that_fail_as_the_process_ends_are_one_record() -> None:
    from twisted.internet import defer, reactor

    import bridge

    def begin() -> defer.Deferred[None]:
        """As a request does whose connection the reactor closes."""
        deferred = defer.Deferred[None]()
        reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred.errback(LookupError("late")))
        return deferred

    for _ in range(20):
        bridge.submit(begin)
    bridge.block_on(lambda: None)


@isolated(status=-2, stderr=r"Traceback .*KeyboardInterrupt")
def test_an_interrupted_program_has_that_status_also_if_its_loop_runs_code_as_it_ends() -> None:
    import asyncio

    import bridge

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            exec("import dataclasses")  # CPython forgets here that the program was interrupted

    bridge.submit(cleans_up())
    bridge.block_on(asyncio.sleep(0))
    raise KeyboardInterrupt
