"""Who runs the reactor; what to write instead of ``reactor.run()`` where the reactor runs already, or was stopped.

Programs often call ``run()`` through a function of a framework, and so do not know that it runs the reactor. The
message names the function that the user has called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from .._errors import at
from .._threads.native import current_frames


class Runner(NamedTuple):
    """A function of a framework that runs the reactor, and what takes its place beside a reactor that runs already."""

    module: str
    function: str  # the name of the function in that module that calls run()
    shown: str  # as the user has called it
    called: str  # what to give to block_on
    remark: str
    serves: bool = False  # it returns when the reactor is stopped, and not when some work is done


_CRAWL = "CrawlerRunner(settings).crawl(MySpider)", "waits for a crawl, as often as you like"
_RUNNERS = (
    Runner("scrapy.crawler", "start", "CrawlerProcess.start()", *_CRAWL),
    Runner("scrapy.crawler", "_start_twisted", "AsyncCrawlerProcess.start()", *_CRAWL),
    Runner("twisted.internet.task", "react", "react(main)", "main(reactor)", "calls main and waits for its result"),
    Runner(
        *("klein._app", "run", "app.run()", "reactor.listenTCP(8080, Site(app.resource()))"),
        *("serves while the program goes on", True),
    ),
)
_PLAIN = Runner(
    *("", "", "reactor.run()", "...", "calls a function on the reactor's thread and waits for its result", True)
)

TRIAL = (
    "trial runs the reactor of this process from test to test, so no bridge can run it in a thread of its own; write "
    "bridge.install() at the top of the test module: tests, their callbacks and their threads may then block. Or write "
    "bridge.configure(install_reactor=False) there, or Bridge(install_reactor=False), for a loop and a reactor beside "
    "trial's; or, in a test whose threads call Twisted's code, Bridge.attach(reactor)"
)


def find_runner(frame: FrameType | None) -> Runner | None:
    """Return the function of a framework, in a frame or in those that have called it, that runs the reactor."""
    while frame is not None:
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        for each in _RUNNERS:
            if (each.module, each.function) == (module, function):
                return each
        frame = frame.f_back
    return None


def runs_already(frame: FrameType | None, thread: int | None, is_of_bridge: bool) -> str:
    """Return the message for a call of run() while the reactor runs.

    :param frame: that of the caller of run().
    :param thread: the ident of the thread in which the reactor runs.
    :param is_of_bridge: whether a bridge runs it, and not the program itself.
    """
    runner = find_runner(frame) or _PLAIN
    names = [each.name for each in threading.enumerate() if each.ident == thread]
    where = f"in the thread {names[0]!r}" if names else "in another thread"
    if thread == threading.get_ident():
        return f"{runner.shown} was called by code that the reactor runs; leave it out" + at("reactor-already-running")
    if not is_of_bridge:
        return f"{runner.shown} runs the reactor, which runs already, {where}; leave it out" + at(
            "reactor-already-running"
        )
    if is_in_trial():
        return TRIAL + at("reactor-under-trial")
    forms = [(f"block_on(lambda: {runner.called})", runner.remark)]
    if runner.serves:
        forms.append(("default_bridge().thread.join()", "waits until the reactor is stopped"))
    forms.append(("bridge.install()", f"before the first call; then {runner.shown} works, and block_on in it"))
    return (
        f"{runner.shown} runs the reactor, which runs already, {where}: a call of bridge has started it there. "
        f"Write instead:{proposed(forms)}" + at("reactor-already-running", "\n")
    )


def was_stopped(frame: FrameType | None) -> str:
    """Return the message for a call of run() after the reactor has been stopped.

    :param frame: that of the caller of run().
    """
    runner = find_runner(frame) or _PLAIN
    remark = "waits for it in the reactor of a bridge, as often as you like"
    return (
        f"{runner.shown} runs the reactor, which was stopped, and a reactor of Twisted's is started once. "
        f"Write instead:{proposed([(f'block_on(lambda: {runner.called})', remark)])}"
        + at("reactor-not-restartable", "\n")
    )


def proposed(forms: list[tuple[str, str]]) -> str:
    """Return the lines of a message that propose code, each with a remark."""
    return "".join(f"\n    {code:<50}  # {remark}" for code, remark in forms)


def is_in_trial() -> bool:
    """Return whether trial runs in this process, or a test of its TestCase, which runs the reactor too."""
    return any_frame(_is_of_trial)


def _is_of_trial(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    # A SynchronousTestCase runs no reactor, and other runners of tests run it.
    return module.startswith("twisted.trial.") and module != "twisted.trial._synctest"


def any_frame(is_meant: Callable[[FrameType], bool]) -> bool:
    """Return whether a frame of any thread is the one that is meant."""
    stacks: list[FrameType | None] = [*current_frames().values()]
    while stacks:  # popped one by one: a name that keeps our own frame would make a reference cycle
        each = stacks.pop()
        while each is not None:
            if is_meant(each):
                return True
            each = each.f_back
    return False
