"""Forks, and blocks in the child and in the parent. ``python -m bridge run`` runs it."""

import asyncio
import os

from bridge import block_on

assert block_on(asyncio.sleep(0.001, "parent")) == "parent"
child = os.fork()
if not child:
    assert block_on(asyncio.sleep(0.001, "child")) == "child"
    os._exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
assert block_on(asyncio.sleep(0.001, "parent")) == "parent"
