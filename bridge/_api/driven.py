"""The bridge of a loop that runs while the main thread waits for it: that of a test session."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

from .._runs.driven import Driven, DrivenRuns, Driving
from .._runs.options import Options
from .bridge import Bridge
from .default import as_default
from .engine import calls_for


def driven_bridge(loop: Driven) -> Bridge:
    """Return the bridge of a loop that :func:`bridge._runs.driven.new_driven_loop` has made.

    Where this thread works for the loop (see ``come_from``), ``block_on`` and the others run the loop until their call
    has ended. While the loop runs, the bridge is the default bridge, also for the threads of the program.
    """
    calls_for()

    def stopped() -> None:
        bridge.runs.last.stopped_by_others()

    options = Options(name="tests", strategy=Driving(loop, stopped))
    bridge = Bridge._with_runs(options, functools.partial(DrivenRuns, loop=loop))

    def around() -> AbstractContextManager[None]:
        return as_default(bridge)

    loop.around = around
    return bridge
