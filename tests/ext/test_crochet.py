"""bridge.ext.crochet: what crochet promises, on the default bridge or on a reactor of the program's."""

from __future__ import annotations

import pytest
from isolated import isolated


@isolated
def test_functions_run_on_the_reactor_and_their_callers_wait() -> None:
    import asyncio
    import contextvars
    import inspect
    import threading

    from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
    from twisted.python import threadable

    import bridge
    from bridge.ext.crochet import EventualResult, run_in_reactor, setup, wait_for

    setup()
    setup()

    def here(*args: object, key: object = None) -> tuple[object, ...]:
        """Say where this runs."""
        assert threadable.isInIOThread()
        return (threading.current_thread().name, *args, key)

    async def both(value: int) -> int:
        return await succeed(value) + await asyncio.sleep(0.01, 1)

    @inlineCallbacks
    def generates(value: int):  # type: ignore[no-untyped-def]
        later: Deferred[int] = Deferred()
        bridge.default_bridge().reactor.callLater(0.01, later.callback, value)
        return (yield later) + 1

    class Thing:
        @wait_for(timeout=10)
        def method(self, value: int) -> object:
            return here(self, value)

        @classmethod
        @wait_for(timeout=10)
        def outside(cls, value: int) -> object:
            return here(cls, value)

        @wait_for(timeout=10)
        @classmethod
        def inside(cls, value: int) -> object:
            return here(cls, value)

        @run_in_reactor
        @staticmethod
        def static(value: int) -> object:
            return here(value)

    thing = Thing()
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(42)
    assert wait_for(10)(variable.get)() == 42
    name = bridge.default_bridge().thread.name
    assert wait_for(10)(here)(1, key=2) == run_in_reactor(here)(1, key=2).wait(10) == (name, 1, 2)
    for function in (both, generates, lambda value: succeed(value + 1), lambda value: value + 1):
        assert wait_for(10)(function)(41) == run_in_reactor(function)(41).wait(10) == 42
    assert thing.method(1) == (name, thing, 1, None)
    assert thing.outside(1) == Thing.inside(1) == (name, Thing, 1, None)
    assert thing.static(1).wait(10) == (name, 1, None)
    assert wait_for(10)(thing.method.__wrapped__)(thing, 2) == (name, thing, 2, None)
    for decorate in (run_in_reactor, wait_for(10)):
        made = decorate(here)
        assert (made.__name__, made.__doc__, made.__wrapped__) == ("here", "Say where this runs.", here)
        assert inspect.signature(made) == inspect.signature(here)
        assert not inspect.iscoroutinefunction(decorate(both))
    # A result that somebody makes himself, in any thread.
    mine = EventualResult(succeed(42), bridge.default_bridge().reactor)
    assert mine.wait(0) == mine.wait(None) == 42
    for each in (fail(LookupError()), fail(KeyError())):
        try:
            EventualResult(each, None).wait(0)
        except LookupError:
            pass
        else:
            raise AssertionError


@isolated
def test_errors_are_the_very_objects_and_their_failures_are_there() -> None:
    import traceback

    from twisted.internet.defer import Deferred, fail
    from twisted.python.failure import Failure

    from bridge.ext.crochet import EventualResult, run_in_reactor, wait_for

    def bad() -> None:
        raise LookupError("badly")

    async def worse() -> None:
        bad()

    def leaves() -> None:
        raise SystemExit(3)

    for function in (bad, worse):
        result = run_in_reactor(function)()
        errors = []
        for wait in (result.wait, result.wait, lambda timeout, f=function: wait_for(timeout)(f)()):
            try:
                wait(10)
            except LookupError as error:
                errors.append(error)
                frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                assert frames[-1] == "bad"
                assert frames.count("bad") == 1
        assert errors[0] is errors[1] is result.original_failure().value
        assert errors[2] is not errors[0]
    try:
        wait_for(10)(leaves)()
    except SystemExit as error:
        assert error.code == 3
    else:
        raise AssertionError
    failure = Failure(ValueError())
    assert EventualResult(fail(failure), None).original_failure() is failure
    assert EventualResult(Deferred(), None).original_failure() is None
    assert run_in_reactor(int)("5").wait(10) == 5


@isolated
def test_a_result_that_is_late_may_be_waited_for_again() -> None:
    import builtins

    from twisted.internet.defer import CancelledError, Deferred

    import bridge
    from bridge.ext import crochet

    fired: list[Deferred[int]] = []

    @crochet.run_in_reactor
    def later() -> Deferred[int]:
        fired.append(Deferred())
        return fired[-1]

    result = later()
    for timeout in (0, 0.01, -1):
        try:
            result.wait(timeout)
        except crochet.TimeoutError as error:
            assert isinstance(error, builtins.TimeoutError)
            assert str(timeout) in str(error)
        else:
            raise AssertionError
    bridge.block_on(lambda: fired[0].callback(42))
    assert result.wait(10) == result.wait(10) == 42

    cancelled = later()
    cancelled.cancel()  # maybe before it has begun
    try:
        cancelled.wait(10)
    except CancelledError:
        pass
    else:
        raise AssertionError

    # wait_for cancels what is late.
    ended = []
    try:
        crochet.wait_for(0.01)(lambda: Deferred().addErrback(ended.append))()
    except crochet.TimeoutError:
        bridge.block_on(lambda: None)
        assert ended[0].check(CancelledError)
    else:
        raise AssertionError


@isolated
def test_the_reactors_own_thread_is_refused_before_anything_begins() -> None:
    import bridge
    from bridge.ext import crochet

    begun: list[int] = []

    @crochet.wait_for(timeout=10)
    def begins() -> None:
        begun.append(1)

    @crochet.run_in_reactor
    def refused() -> int:
        result = crochet.run_in_reactor(int)()  # may be called here
        for wait in (begins, lambda: result.wait(10)):
            try:
                wait()
            except RuntimeError as error:
                assert "must not be run in the reactor thread" in str(error)
            else:
                raise AssertionError
        return bridge.block_on(bridge.submit(lambda: 42))

    assert refused().wait(10) == 42
    assert not begun


@pytest.mark.parametrize("end", ["reactor.stop", "loop.stop", "close", "killed"])
@isolated(stderr=".*")
def test_a_reactor_that_ends_fails_what_is_open_and_the_next_call_starts_it_again(end: str) -> None:
    import ctypes
    import gc
    import logging
    import threading

    from twisted.internet.defer import Deferred

    import bridge
    from bridge.ext import crochet

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("twisted").addHandler(handler)
    begun = threading.Semaphore(0)

    def stuck() -> Deferred[None]:
        begun.release()
        return Deferred()

    def waits(errors: list[BaseException]) -> None:
        try:
            crochet.wait_for(timeout=None)(stuck)()
        except BaseException as error:
            errors.append(error)

    for life in range(3):
        own = bridge.default_bridge()
        results = [crochet.run_in_reactor(stuck)() for _ in range(3)]
        crochet.run_in_reactor(stuck)()  # nobody holds the result
        errors: list[BaseException] = []
        thread = threading.Thread(target=waits, args=(errors,))
        thread.start()
        for _ in range(5):
            assert begun.acquire(timeout=10)
        if end == "close":
            own.close()
        elif end == "killed":
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(own.thread.ident), ctypes.py_object(SystemExit))
            own.loop.call_soon_threadsafe(int)
        else:
            bridge.submit(own.reactor.stop if end == "reactor.stop" else own.loop.stop)
        for result in results:
            try:
                result.wait(10)
            except crochet.ReactorStopped as error:
                assert isinstance(error, bridge.BridgeClosed)
                assert str(error)
            else:
                raise AssertionError
            assert result.original_failure().check(crochet.ReactorStopped)
        thread.join(10)
        assert [type(error) for error in errors] == [crochet.ReactorStopped]
        assert crochet.wait_for(timeout=10)(lambda life=life: life)() == life
        del results, result
        gc.collect()
    assert not [record.message for record in records if "EventualResult" in record.getMessage()]


@pytest.mark.parametrize("kind", ["epoll", "asyncio", "ours"])
@isolated
def test_a_program_runs_its_reactor_itself(kind: str) -> None:
    import asyncio
    import threading

    import bridge

    if kind == "asyncio":
        from twisted.internet import asyncioreactor

        asyncioreactor.install(asyncio.new_event_loop())
    elif kind == "ours":
        bridge.install()

    from bridge.ext import crochet

    crochet.no_setup()
    crochet.setup()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    async def waits() -> bool:
        await deferLater(reactor, 0.01)
        if kind != "epoll":
            await asyncio.sleep(0.01)
        return threading.current_thread() is threading.main_thread()

    seen: list[object] = []

    def works(early: crochet.EventualResult[bool], stuck: crochet.EventualResult[None]) -> None:
        seen.append(early.wait(10))
        seen.append(crochet.wait_for(10)(waits)())
        reactor.callFromThread(reactor.stop)
        try:
            stuck.wait(10)
        except crochet.ReactorStopped:
            seen.append("stopped")

    early, stuck = crochet.run_in_reactor(waits)(), crochet.run_in_reactor(Deferred)()  # before the reactor runs
    thread = threading.Thread(target=works, args=(early, stuck))
    thread.start()
    reactor.run(installSignalHandlers=False)
    thread.join(10)
    assert seen == [True, True, "stopped"]
    try:
        crochet.run_in_reactor(waits)()
    except crochet.ReactorStopped as error:
        assert "call the function before that" in str(error)
    else:
        raise AssertionError


@isolated
def test_setup_and_no_setup_exclude_one_another() -> None:
    from bridge.ext import crochet

    crochet.setup()
    try:
        crochet.no_setup()
    except RuntimeError as error:
        assert "before it imports the libraries" in str(error)
    else:
        raise AssertionError


@isolated
def test_setup_where_a_reactor_runs_says_what_to_call() -> None:
    from twisted.internet import reactor

    import bridge
    from bridge.ext import crochet

    seen: list[str] = []

    def main() -> None:
        try:
            crochet.setup()
        except bridge.ReactorConflict as error:
            seen.extend(error.__notes__)
        reactor.stop()

    reactor.callWhenRunning(main)
    reactor.run(installSignalHandlers=False)
    assert "crochet.no_setup()" in seen[-1]


@isolated(stdout="ready\nunseen ZeroDivisionError\nunseen KeyError\nunseen ValueError\nstashed OSError")
def test_an_error_that_nobody_sees_goes_to_twisteds_log_once() -> None:
    import gc
    import logging

    from twisted.internet.defer import Deferred, fail

    import bridge
    from bridge.ext import crochet

    class Prints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kind = "stashed" if "stashed" in record.getMessage() else "unseen"
            print(kind, record.exc_info[0].__name__, flush=True)

    crochet.setup()
    handler = Prints(level=logging.ERROR)
    logging.getLogger("twisted").addHandler(handler)
    print("ready")
    later: Deferred[None] = Deferred()
    crochet.EventualResult(later, None)  # nobody holds it as it fails
    later.errback(ZeroDivisionError())
    crochet.EventualResult(fail(KeyError()), None)
    result = crochet.run_in_reactor(lambda: fail(ValueError()))()
    bridge.block_on(lambda: None)
    assert result.has_ended
    del result
    gc.collect()
    seen = crochet.run_in_reactor(lambda: fail(TypeError()))()
    try:
        seen.wait(10)
    except TypeError:
        pass
    failed = crochet.run_in_reactor(lambda: fail(TypeError()))()
    bridge.block_on(lambda: None)
    assert failed.original_failure().check(TypeError)
    try:  # what was cancelled fails as its caller wants it
        crochet.wait_for(0)(Deferred)()
    except crochet.TimeoutError:
        bridge.block_on(lambda: None)
    number = crochet.EventualResult(fail(OSError()), None).stash()
    assert crochet.EventualResult(fail(IndexError()), None).stash() == number + 1
    taken = crochet.retrieve_result(number + 1)
    assert taken.original_failure().check(IndexError)
    try:
        crochet.retrieve_result(number + 1)
    except KeyError:
        pass
    else:
        raise AssertionError
    del seen, failed, taken
    gc.collect()


@isolated(stdout="cancelled", status=130)
def test_ctrl_c_ends_a_wait_and_cancels_what_it_waits_for() -> None:
    import os
    import signal
    import sys
    import threading

    from twisted.internet.defer import Deferred

    from bridge.ext import crochet

    @crochet.wait_for(timeout=60)
    def stuck() -> Deferred[None]:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        return Deferred().addErrback(lambda _: print("cancelled", flush=True))

    try:
        stuck()
    except KeyboardInterrupt:
        sys.exit(130)


@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_a_forked_child_has_a_reactor_of_its_own() -> None:
    import os
    import threading

    from bridge.ext import crochet

    answer = crochet.wait_for(timeout=10)(lambda: (os.getpid(), threading.current_thread().name))
    assert answer() == (os.getpid(), "bridge")
    child = os.fork()
    if not child:
        os._exit(0 if answer() == (os.getpid(), "bridge") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert answer() == (os.getpid(), "bridge")


@isolated(stdout="42\nstopped")
def test_when_the_process_has_ended_its_loops_a_call_is_refused() -> None:
    import atexit

    from bridge.ext import crochet

    answer = crochet.wait_for(timeout=10)(lambda: 42)

    def late() -> None:
        try:
            answer()
        except crochet.ReactorStopped:
            print("stopped")

    atexit.register(late)  # before the first call, so that it runs after the loop has ended
    print(answer())


@isolated
def test_threads_that_are_no_longer_the_reactors_may_wait() -> None:
    import asyncio
    import threading

    from twisted.internet.task import deferLater

    import bridge
    from bridge.ext import crochet

    crochet.setup()

    @crochet.wait_for(timeout=20)
    def function() -> int:
        return 1

    async def main() -> None:
        from twisted.internet import reactor

        await deferLater(reactor, 0.01, lambda: None)

    assert function() == 1
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())
    assert function() == 1  # in the thread where that loop has run
    bridge.default_bridge().close()
    results: list[int] = []
    for _ in range(5):  # the system may give a new thread the number of the one that has ended
        caller = threading.Thread(target=lambda: results.append(function()))
        caller.start()
        caller.join()
        bridge.default_bridge().close()
    assert results == [1] * 5
