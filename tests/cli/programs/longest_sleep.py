"""Tells whether the loop never sleeps for longer than a second."""

import asyncio
import time

from bridge import block_on, in_thread

sleeps = []
selector = asyncio.get_running_loop()._selector
select = selector.select
selector.select = lambda timeout=None: sleeps.append(timeout) or select(timeout)
block_on(in_thread(time.sleep, 0.2))
print(max(sleeps, key=lambda seconds: float("inf") if seconds is None else seconds) <= 1)
