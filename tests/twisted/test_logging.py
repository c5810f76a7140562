"""What is logged: Twisted's log, to the standard logging; and errors of submitted work that nobody asks for."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from isolated import isolated
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger, globalLogBeginner, globalLogPublisher
from twisted.python import log as legacy_log

from bridge import Bridge
from bridge._twisted.logging import twisted_log
from bridge._values.origin import origin_of, shown


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(30)
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


def handler_of(name: str) -> Iterator[Records]:
    gc.collect()  # what earlier tests have left says nothing from now on
    logger, handler = logging.getLogger(name), Records()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def twisted_records() -> Iterator[Records]:
    yield from handler_of("twisted")


@pytest.fixture
def records() -> Iterator[Records]:
    yield from handler_of("bridge")


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- Twisted's log


def test_events_of_twisted_are_records_of_logging(twisted_records: Records) -> None:
    log = Logger("app.module")

    def emit() -> None:
        log.info("got {what}", what="it")
        log.warn("careful")
        legacy_log.msg("an old message")
        log.debug("too fine")

    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(emit)
    assert [(each.levelname, each.getMessage()) for each in twisted_records.records] == [
        ("INFO", "got it"),
        ("WARNING", "careful"),
        ("INFO", "an old message"),
    ]
    assert {each.name for each in twisted_records.records} == {"twisted"}
    first: Any = twisted_records.records[0]
    assert first.log_namespace == "app.module"
    assert first.threadName != threading.current_thread().name
    assert abs(first.created - time.time()) < 60


def test_unhandled_error_in_a_deferred_has_its_traceback(twisted_records: Records) -> None:
    def raising() -> None:
        raise LookupError("lost")

    def drop() -> None:
        Deferred().addCallback(lambda _: raising()).callback(None)
        gc.collect()

    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(drop)
        gc.collect()
    title, record = twisted_records.records
    assert title.getMessage() == "Unhandled error in Deferred:"
    assert record.levelno == logging.CRITICAL
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)
    assert "in raising" in logging.Formatter().format(record)


def test_what_a_call_raises_is_not_logged_by_twisted(twisted_records: Records) -> None:
    with Bridge(install_reactor=False) as bridge:
        with pytest.raises(LookupError):
            bridge.block_on(lambda: fail(LookupError()))
        gc.collect()
    assert not twisted_records.records


def test_a_handler_that_blocks_does_not_stop_the_loop(twisted_records: Records) -> None:
    twisted_records.gate = threading.Event()
    log = Logger()
    with Bridge(install_reactor=False) as bridge:
        for number in range(3):
            bridge.block_on(lambda number=number: log.info("{number}", number=number))  # type: ignore[misc]
        assert twisted_records.entered.wait(30)
        assert bridge.block_on(asyncio.sleep(0, "goes on")) == "goes on"
        assert not twisted_records.records
        threading.Timer(0.1, twisted_records.gate.set).start()
    assert twisted_records.texts == ["0", "1", "2"]  # close() has waited for the handler
    wait_until(lambda: "bridge-log" not in {thread.name for thread in threading.enumerate()})


def test_text_is_that_of_the_moment(twisted_records: Records) -> None:
    twisted_records.gate = threading.Event()
    things: list[int] = [1]

    def emit() -> None:
        Logger().info("{things}", things=things)
        things.append(2)

    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(emit)
        twisted_records.gate.set()
    assert twisted_records.texts == ["[1]"]


def test_two_bridges_log_an_event_once(twisted_records: Records) -> None:
    with Bridge(install_reactor=False) as one, Bridge(install_reactor=False):
        one.block_on(lambda: Logger().info("once"))
    with Bridge(install_reactor=False) as again:
        again.block_on(lambda: Logger().info("twice"))
    assert twisted_records.texts == ["once", "twice"]


def test_without_a_bridge_nothing_is_observed(twisted_records: Records) -> None:
    before = list(globalLogPublisher._observers)
    with Bridge(install_reactor=False):
        assert twisted_log in globalLogPublisher._observers
    assert [each for each in globalLogPublisher._observers if each is not twisted_log] == before
    assert twisted_log not in globalLogPublisher._observers
    Logger().info("unheard")
    assert not twisted_records.records


def test_a_handler_that_logs_to_twisted_goes_round_in_no_circle() -> None:
    class Circle(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += 1
            Logger().warn("again")

    handler = Circle()
    logging.getLogger("twisted").addHandler(handler)
    try:
        with Bridge(install_reactor=False) as bridge:
            bridge.block_on(lambda: Logger().warn("first"))
    finally:
        logging.getLogger("twisted").removeHandler(handler)
    assert handler.count == 1


def test_a_filter_that_raises_ends_nothing(twisted_records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(record: logging.LogRecord) -> bool:
        if record.getMessage() == "wrong":
            raise LookupError
        return True

    logger = logging.getLogger("twisted")
    logger.addFilter(wrong)
    try:
        with Bridge(install_reactor=False) as bridge:
            bridge.block_on(lambda: Logger().info("wrong"))
            bridge.block_on(lambda: Logger().info("right"))
    finally:
        logger.removeFilter(wrong)
    assert twisted_records.texts == ["right"]
    assert "LookupError" in capsys.readouterr().err


@isolated(stdout=r"file: .*hello.*", stderr="")
def test_a_program_that_has_started_twisteds_logging_is_left_alone() -> None:
    import io
    import logging

    from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

    from bridge import Bridge

    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("twisted").addHandler(handler)
    file = io.StringIO()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(file)], redirectStandardIO=False)
    with Bridge() as bridge:
        bridge.block_on(lambda: Logger().warn("hello"))
    assert not records
    print("file:", file.getvalue())


@isolated(stdout=r"file: .*early.*late.*", stderr="")
def test_a_program_that_starts_twisteds_logging_later_takes_it_over() -> None:
    import io
    import logging

    from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

    from bridge import Bridge

    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("twisted").addHandler(handler)
    file = io.StringIO()
    with Bridge() as bridge:
        bridge.block_on(lambda: Logger().warn("early"))
        globalLogBeginner.beginLoggingTo([textFileLogObserver(file)], redirectStandardIO=False)
        bridge.block_on(lambda: Logger().warn("late"))
    assert [record.getMessage() for record in records] == ["early"]
    print("file:", file.getvalue())


@isolated
def test_a_program_that_logs_twisted_to_logging_itself_gets_nothing_twice() -> None:
    import logging

    from twisted.logger import Logger, STDLibLogObserver, globalLogPublisher
    from twisted.python.log import PythonLoggingObserver

    from bridge import Bridge

    texts = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(str(record.msg))
    logging.getLogger("twisted").addHandler(handler)
    observer = STDLibLogObserver()
    globalLogPublisher.addObserver(observer)
    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(lambda: Logger().warn("one"))
        globalLogPublisher.removeObserver(observer)
    legacy = PythonLoggingObserver()
    with Bridge(install_reactor=False) as bridge:
        legacy.start()
        bridge.block_on(lambda: Logger().warn("two"))
    legacy.stop()
    assert texts == ["one", "two"], texts


@isolated(stderr=r".*Unhandled error in Deferred.*LookupError: lost.*")
def test_without_any_logging_critical_events_reach_standard_error_once() -> None:
    import gc
    import sys

    from twisted.internet.defer import Deferred

    from bridge import block_on

    class Once:
        lines = 0

        def write(self, text: str) -> None:
            self.lines += text.count("LookupError: lost")
            sys.__stderr__.write(text)

        def flush(self) -> None:
            sys.__stderr__.flush()

    sys.stderr = Once()

    def drop() -> None:
        Deferred().errback(LookupError("lost"))
        gc.collect()

    block_on(drop)
    import atexit

    atexit.register(lambda: None)
    from bridge import default_bridge

    default_bridge().close()
    assert sys.stderr.lines == 1, sys.stderr.lines


@isolated(stdout="0\n1\n2")
def test_nothing_is_lost_at_exit() -> None:
    import logging
    import sys
    import time

    from twisted.logger import Logger

    from bridge import block_on

    class Slow(logging.StreamHandler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(0.1)
            super().emit(record)

    logger = logging.getLogger("twisted")
    logger.setLevel(logging.INFO)
    logger.addHandler(Slow(sys.stdout))
    log = Logger()
    for number in range(3):
        block_on(lambda number=number: log.info("{number}", number=number))


# --- submitted work


async def failing() -> None:
    raise LookupError("lost")


def wait_for(future: Any) -> None:
    wait_until(future.done)


@isolated
def test_ctrl_c_at_every_point_of_a_flush_leaves_the_handlers_at_work() -> None:
    import logging

    from points import interrupt
    from twisted.logger import Logger

    from bridge import Bridge
    from bridge._watch.records import records

    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logging.getLogger("twisted").addHandler(Handler())
    logging.getLogger("twisted").propagate = False
    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(lambda: None)
        at, point = 0, "the first"
        while point:
            at += 1
            Logger().warn("number {number}", number=at)
            point = interrupt(lambda: records.flush(5), at)
            assert records.flush(5), point
            assert seen[-1] == f"number {at}"
    assert at > 5


def test_error_that_nobody_asks_for_is_logged_once_with_the_submitter(records: Records) -> None:
    def submitter(bridge: Bridge) -> None:
        wait_for(bridge.submit(failing()))

    with Bridge(install_reactor=False) as bridge:
        submitter(bridge)
        gc.collect()
    (record,) = records.records
    text = logging.Formatter().format(record)
    assert text.startswith("submit(coroutine failing) failed, and nobody asked its Future for the error")
    assert "in submitter" in text
    assert "wait_for(bridge.submit(failing()))" in text
    assert "LookupError: lost" in text
    assert "in failing" in text


@pytest.mark.parametrize(
    "ask",
    [
        lambda future: pytest.raises(LookupError, future.result),  # noqa: RUF061
        lambda future: future.exception(),
        lambda future: asyncio.run(asyncio.wait({asyncio.wrap_future(future)})) if False else future.exception(0),
        lambda future: future.add_done_callback(lambda done: done.exception()),
    ],
)
def test_error_that_was_asked_for_is_not_logged(records: Records, ask: Callable[[Any], object]) -> None:
    with Bridge(install_reactor=False) as bridge:
        future = bridge.submit(failing())
        wait_for(future)
        ask(future)
        del future
        gc.collect()
    assert not records.records


def test_error_that_a_loop_takes_is_not_logged(records: Records) -> None:
    with Bridge(install_reactor=False) as bridge:

        async def main() -> None:
            with pytest.raises(LookupError):
                await asyncio.wrap_future(bridge.submit(failing()))

        asyncio.run(main())
        with pytest.raises(LookupError):
            bridge.block_on(bridge.submit(failing()))
        gc.collect()
    assert not records.records


def test_cancelled_work_and_a_closed_bridge_are_not_logged(records: Records) -> None:
    with Bridge(install_reactor=False) as bridge:
        one, two = bridge.submit(asyncio.sleep(60)), bridge.submit(asyncio.sleep(60))
        one.cancel()
        wait_for(one)
    wait_for(two)
    del one, two
    gc.collect()
    assert not records.records


@pytest.mark.parametrize("kind", ["coroutine", "deferred", "callable", "task"])
def test_nobody_else_logs_the_same_error(
    records: Records, twisted_records: Records, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def raising() -> None:
        raise LookupError("lost")

    with Bridge(install_reactor=False) as bridge:
        work: dict[str, Any] = {
            "coroutine": failing(),
            "deferred": lambda: fail(LookupError("lost")),
            "callable": raising,
            "task": lambda: asyncio.ensure_future(failing(), loop=bridge.loop),
        }
        future = bridge.submit(work[kind])
        wait_for(future)
        del future
        if kind != "coroutine":
            work["coroutine"].close()
        work.clear()
        gc.collect()
        bridge.block_on(lambda: gc.collect())
    assert len(records.records) == 1
    assert not twisted_records.records
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["bridge"]


def test_handlers_that_block_do_not_stop_the_loop_on_which_a_future_is_dropped(records: Records) -> None:
    records.gate = threading.Event()

    async def main(bridge: Bridge) -> None:
        future = bridge.submit(failing())
        while not future.done():
            await asyncio.sleep(0)
        del future
        gc.collect()

    with Bridge(install_reactor=False) as bridge:
        bridge.block_on(main(bridge))
        assert records.entered.wait(30)
        assert not records.records
        records.gate.set()
    assert len(records.records) == 1


def test_an_origin_keeps_no_frame_alive() -> None:
    class Thing:
        pass

    def outer() -> Any:
        thing = Thing()
        assert thing
        return inner()

    def inner() -> Any:
        return origin_of(sys._getframe())

    origin = outer()
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Thing]
    text = shown(origin)
    assert text.index("in outer") < text.index("return inner()") < text.index("in inner")


def test_twisted_is_as_before_the_tests() -> None:
    assert globalLogBeginner._temporaryObserver is not None
    assert globalLogBeginner._temporaryObserver in globalLogPublisher._observers
