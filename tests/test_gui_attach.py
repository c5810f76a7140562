"""Bridge.attach() on the reactors of GUI toolkits, whose own loop carries them, and on one that carries Tk."""

from __future__ import annotations

import importlib.util

import pytest
from guis import BINDINGS, needs
from isolated import isolated


@pytest.mark.parametrize("binding", BINDINGS)
def test_qts_reactor(binding: str, screen: None) -> None:
    needs(binding)
    if importlib.util.find_spec("qreactor") is None:
        pytest.skip("needs qt-reactor, which 'nox -s gui' installs")
    in_a_process_with_qt(binding=binding)


@isolated(options=())
def in_a_process_with_qt(binding: str) -> None:
    import os

    os.environ["QT_API"] = binding.lower()
    import qreactor
    from qtpy import QtWidgets

    application = QtWidgets.QApplication([])
    qreactor.install()
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, StrategyUnavailable

    bridge = Bridge.attach(reactor)

    async def coroutine() -> str:
        return await deferLater(reactor, 0.01, lambda: "coroutine")

    def work() -> list[object]:
        return [
            bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred")),
            bridge.block_on(coroutine()),
        ]

    def start() -> None:
        try:
            bridge.block_on(coroutine())
        except StrategyUnavailable:
            done.append("refused")
        deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop())

    done: list[object] = []
    reactor.callWhenRunning(start)
    reactor.run()
    assert done == ["refused", ["deferred", "coroutine"]], done
    assert application is not None


def test_tk_on_a_reactor(screen: None) -> None:
    needs("tk")
    in_a_process_with_tk()


@isolated
def in_a_process_with_tk() -> None:
    import tkinter

    from twisted.internet import reactor, tksupport
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge

    root = tkinter.Tk()
    tksupport.install(root)
    bridge = Bridge.attach(reactor)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        root.after(5, tick)

    def work() -> str:
        value = ""
        while len(ticks) <= 5:
            value = bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred"))
        return value

    done: list[object] = []
    tick()
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    assert done == ["deferred"]
    tksupport.uninstall()
    root.destroy()
