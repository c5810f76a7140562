"""How long the way of a call is: the files of ours that it passes, and the frames that Python keeps of ours."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import pytest
from places import in_a_thread

import bridge as package
from bridge import Bridge

PACKAGE = os.path.dirname(package.__file__) + os.sep


async def at_once() -> str:
    return "value"


async def suspending() -> str:
    await asyncio.sleep(0)
    return "value"


async def failing() -> None:
    raise LookupError


async def failing_later() -> None:
    await asyncio.sleep(0)
    raise LookupError


@pytest.fixture
def untrimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks as Python makes them."""
    for name, module in list(sys.modules.items()):
        if name.startswith("bridge.") and hasattr(module, "trim"):
            monkeypatch.setattr(module, "trim", lambda error: None)


@pytest.mark.parametrize("coroutine", [at_once, suspending])
def test_a_call_passes_ten_files(coroutine: Callable[[], Any]) -> None:
    if not hasattr(threading, "setprofile_all_threads"):
        pytest.skip("profiling a thread that runs already came with 3.12")
    files: set[str] = set()

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            files.add(frame.f_code.co_filename.removeprefix(PACKAGE))

    with Bridge("way", install_reactor=False) as bridge:
        # In a thread that is not the main thread, which looks up for signals while it sleeps, in one more file.
        # stats() measures the first 1,000 calls, and then one in 31, which takes one more file. The call below is none.
        def call() -> str:
            for _ in range(1001):
                bridge.block_on(coroutine())
            threading.setprofile_all_threads(profile)
            try:
                result: str = bridge.block_on(coroutine())
                return result
            finally:
                threading.setprofile_all_threads(None)  # type: ignore[arg-type]

        result = in_a_thread(call)
    assert result == "value"
    assert "_calls/state.py" in files, files
    assert "_loop/base.py" in files, "it did not see the loop's thread"
    assert len(files) <= 10, sorted(files)


def _of_ours(traceback: TracebackType | None) -> list[str]:
    """Return our frames between the caller's frame and the coroutine's."""
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(PACKAGE):
            frames.append(f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_name}")
        traceback = traceback.tb_next
    return frames


@pytest.mark.usefixtures("untrimmed")
@pytest.mark.parametrize("coroutine", [failing, failing_later])
@pytest.mark.parametrize("where", ["a thread", "the loop"])
@pytest.mark.parametrize("verb", ["bridge.block_on", "block_on"])
def test_a_traceback_has_four_frames_of_ours(bridge: Bridge, verb: str, where: str, coroutine: Any) -> None:
    block_on = bridge.block_on if verb == "bridge.block_on" else package.block_on

    async def main() -> list[str]:
        return call()

    def call() -> list[str]:
        try:
            block_on(coroutine())
        except LookupError as error:
            return _of_ours(error.__traceback__)
        raise AssertionError("it did not raise")

    frames = call() if where == "a thread" else bridge.block_on(main())
    assert frames
    assert len(frames) <= 4, frames


@pytest.mark.parametrize("coroutine", ["at once", "later"])
@pytest.mark.parametrize("verb", ["bridge.block_on", "block_on"])
def test_the_stack_has_four_frames_of_ours_while_a_coroutine_runs_in_place(
    bridge: Bridge, verb: str, coroutine: str
) -> None:
    block_on = bridge.block_on if verb == "bridge.block_on" else package.block_on

    async def shows() -> list[str]:
        if coroutine == "later":
            await asyncio.sleep(0)
        frames: list[str] = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not main.__code__:
            frames.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            frame = frame.f_back
        assert frame is not None
        return frames

    async def main() -> list[str]:
        return block_on(shows())

    frames = bridge.block_on(main())
    assert all(each.startswith(PACKAGE) for each in frames)
    assert 1 <= len(frames) <= 4, frames
