"""The options of the default bridge, which several parts of a program set: the first value of each wins."""

from __future__ import annotations

from isolated import isolated

from bridge import Bridge


@isolated
def test_the_first_value_wins_and_a_later_one_is_ignored_with_both_places() -> None:
    import asyncio
    import signal
    import sys

    import pytest

    import bridge

    def line() -> int:
        return sys._getframe(1).f_lineno

    assert bridge.default_bridge().options.stall_after == 30
    bridge.configure(strategy="event", dump_signal=signal.SIGUSR1)
    first = line() - 1
    default = bridge.default_bridge()
    bridge.configure(strategy=default.options.strategy, stall_after=5)  # the same, and one more
    assert (default.strategy.name, default.stall_after) == ("event", 5)
    with pytest.warns(RuntimeWarning) as warned:
        bridge.configure(strategy="lock", dump_signal=signal.SIGUSR2, shutdown_timeout=2)
    second = line() - 1
    assert [(each.filename, each.lineno) for each in warned] == [(__file__, second)] * 2
    assert str(warned[0].message).startswith(
        f"configure(strategy='lock') at {__file__}:{second} is ignored: {__file__}:{first} has set strategy='event'. "
    )
    assert "Bridge(strategy=...)" in str(warned[0].message)
    assert f"has set dump_signal={int(signal.SIGUSR1)}" in str(warned[1].message)
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
    options = default.options
    assert (options.strategy.name, options.stall_after, options.shutdown_timeout) == ("event", 5, 2)
    assert (options.dump_signal, options.exit_grace, options.context_out) == (signal.SIGUSR1, 0, True)
    for wrong in ({"strategy": "no such strategy"}, {"stall_after": -1}, {"no_such_option": 1}):
        with pytest.raises((bridge.StrategyUnavailable, ValueError, TypeError)):
            bridge.configure(**wrong)
    assert bridge.default_bridge().options == options
    assert bridge.block_on(asyncio.sleep(0, "value")) == "value"
    default.close()

    async def configured_elsewhere() -> None:
        await asyncio.to_thread(lambda: bridge.configure(dump_signal=signal.SIGUSR2, stall_after=9))

    # Off the main thread nothing is set, whatever the other options say.
    with pytest.raises(bridge.BridgeError, match="main thread"):
        asyncio.run(configured_elsewhere())
    assert default.options == options


@isolated
def test_after_the_start_what_is_so_may_be_said_and_after_a_close_each_option_set_once_more() -> None:
    import asyncio
    import sys

    import pytest

    import bridge

    bridge.configure(shutdown_timeout=2)
    bridge.block_on(asyncio.sleep(0))
    start = sys._getframe().f_lineno - 1
    default = bridge.default_bridge()
    bridge.configure(shutdown_timeout=2, stall_after=30, strategy="auto")
    with pytest.warns(RuntimeWarning, match=f"since {__file__}:{start} the default bridge runs with stall_after=30.0"):
        bridge.configure(stall_after=5)
    with pytest.warns(RuntimeWarning, match=f"{__file__}:{start - 1} has set shutdown_timeout=2"):
        bridge.configure(shutdown_timeout=3)
    assert (default.options.stall_after, default.current_run().stall_after) == (30, 30)

    default.close()
    assert default.options.shutdown_timeout == 2  # until it is set once more
    bridge.configure(stall_after=5, shutdown_timeout=3, name="again", context_out=False)
    with pytest.warns(RuntimeWarning, match="has set stall_after=5"):
        bridge.configure(stall_after=6)
    bridge.block_on(asyncio.sleep(0))
    assert bridge.default_bridge() is default
    assert (default.options.stall_after, default.current_run().stall_after) == (5, 5)
    assert default.current_run().shutdown_timeout == 3
    assert default.name == default.thread.name == "again"
    assert default.stats().calls == 2


@isolated
def test_two_libraries_that_configure_and_one_that_does_as_it_should() -> None:
    import asyncio
    import importlib
    import pathlib
    import sys
    import tempfile
    import warnings

    import bridge

    libraries = {
        "early": "import bridge\ndef get(): return bridge.block_on(bridge_call())\n",
        "late": "import bridge\ndef get():\n    bridge.configure(stall_after=5)\n    return bridge.block_on(work())\n",
        "own": "import bridge\nmine = bridge.Bridge('own', install_reactor=False, stall_after=7)\n"
        "def get(): return mine.block_on(work())\n",
    }
    work = "import asyncio\nasync def work():\n    await asyncio.sleep(0)\n    return __name__\n"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sys.path.insert(0, folder)
        for name, text in libraries.items():
            pathlib.Path(folder, f"{name}.py").write_text(work + text.replace("bridge_call", "work"))
        early, late, own = map(importlib.import_module, libraries)
        assert [each.get() for each in (early, late, own, late)] == ["early", "late", "own", "late"]
        (message,) = {str(each.message) for each in warned if each.category is RuntimeWarning}
        assert f"configure(stall_after=5) at {late.__file__}:7 is ignored: since {early.__file__}:6 " in message
        assert own.mine.options.stall_after == 7
        own.mine.close()
    assert bridge.block_on(asyncio.sleep(0, "the program")) == "the program"


@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_a_forked_child_has_the_options_of_its_parent() -> None:
    import asyncio
    import os

    import bridge

    bridge.configure(stall_after=5)
    bridge.block_on(asyncio.sleep(0))
    child = os.fork()
    if not child:
        try:
            bridge.configure(stall_after=5, shutdown_timeout=3)  # the latter is new, and no loop runs here
            bridge.block_on(asyncio.sleep(0))
            run = bridge.default_bridge().current_run()
            os._exit(0 if (run.stall_after, run.shutdown_timeout) == (5, 3) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@isolated
def test_options_of_a_default_bridge_that_is_attached_add_up() -> None:
    import asyncio

    import pytest

    import bridge
    from bridge._api.default import use_as_default

    async def main() -> None:
        attached = bridge.Bridge.attach()
        use_as_default(attached)
        bridge.configure(stall_after=7)
        bridge.configure(exit_grace=3)
        with pytest.warns(RuntimeWarning, match="has set stall_after=7"):
            bridge.configure(stall_after=8)
        assert (attached.name, attached.stall_after, attached.exit_grace) == ("attached", 7, 3)
        assert attached.current_run().stall_after == 7

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())


def test_options_of_a_bridge_of_ones_own_are_read_alike() -> None:
    with Bridge("mine", strategy="event", stall_after=float("inf"), context_out=False) as mine:
        options = mine.options
        assert (options.name, options.strategy.name, options.stall_after) == ("mine", "event", None)
        assert options.context_out is False
