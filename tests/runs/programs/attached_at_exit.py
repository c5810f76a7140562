"""Keep an attached bridge until the interpreter takes its modules down."""

import asyncio
import sys
from typing import Any

import bridge

held: dict[str, Any] = {}


async def main() -> None:
    held["bridge"] = bridge.Bridge.attach()
    print(await asyncio.to_thread(held["bridge"].block_on, asyncio.sleep(0, "called")))


with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
    runner.run(main())
# Of the modules that are left as the others go, sys is the last.
sys.held = held  # type: ignore[attr-defined]
