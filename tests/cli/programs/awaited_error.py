"""Fails in what it blocks on. The test knows the numbers of its lines."""

from bridge import block_on


async def awaited():
    raise LookupError("no such thing")


def function():
    block_on(awaited())


function()
