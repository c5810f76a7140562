"""An idle reactor whose descriptors a daemonizer has closed before the first call."""

from __future__ import annotations

import pytest
from isolated import isolated


@pytest.mark.parametrize("kind", ["default", "selectreactor", "asyncioreactor"])
@pytest.mark.parametrize("are_reused", [False, True])
@isolated(fresh=True)
def test_the_first_call_works_and_nothing_of_others_is_closed(kind: str, are_reused: bool) -> None:
    import gc
    import os
    import tempfile
    from importlib import import_module
    from typing import Any

    from twisted.internet.task import deferLater

    module: Any = import_module(f"twisted.internet.{kind}")
    module.install()
    from twisted.internet import reactor

    os.closerange(3, 256)
    files: list[Any] = [tempfile.TemporaryFile() for _ in range(6 if are_reused else 0)]  # noqa: SIM115
    from bridge import block_on, default_bridge

    for _ in range(2):
        assert block_on(lambda: deferLater(reactor, 0.01, lambda: "fired"), timeout=10) == "fired"
        default_bridge().close()
    gc.collect()
    for file in files:
        file.write(b"still open")
        file.close()
    assert default_bridge().reactor is reactor


@isolated(
    stderr=r"the descriptors of the idle reactor were closed, .* serves these no more: .*Port.*; open them after .*"
)
def test_what_the_reactor_served_is_named() -> None:
    import os

    from twisted.internet import protocol, reactor
    from twisted.internet.task import deferLater

    reactor.listenTCP(0, protocol.ServerFactory(), interface="127.0.0.1")
    os.closerange(3, 256)
    from bridge import block_on

    assert block_on(lambda: deferLater(reactor, 0.01, lambda: "fired"), timeout=10) == "fired"
