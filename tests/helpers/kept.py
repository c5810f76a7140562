"""The program of docs/how-to/clients.md with a client for each process, for tests in several kinds of process."""

from __future__ import annotations

import re
from collections import Counter

from documents import blocks

# In the place of httpx: a client that says as whose it is made and closed, and refuses another loop and a second life.
CLIENT = """
import asyncio
import os
import sys
import types

import bridge


def say(text):
    os.write(1, f"{text} {os.getpid()}\\n".encode())


class Client:
    def __init__(self, timeout):
        self.loop = asyncio.get_running_loop()
        say("made")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await asyncio.sleep(0.01)
        say("closed")

    async def get(self, number):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0.01)
        return number


sys.modules["httpx"] = types.SimpleNamespace(AsyncClient=Client)
"""
CALL = """

def ask(number):
    return bridge.block_on(client().get(number), timeout=20)
"""


def kept_client() -> str:
    """Return a module whose ``ask(number)`` calls the client of the process, as the page makes it."""
    (program,) = (code for name, code in blocks("python") if "clients.md" in name and "def client():" in code)
    return CLIENT + program.partition("\n\nprint(")[0] + CALL


def made_and_closed(said: str) -> tuple[Counter[str], Counter[str]]:
    """Return the processes that have made a client, and those that have closed one, each as often as it did."""
    made, closed = (Counter(re.findall(rf"^{verb} (\d+)$", said, re.MULTILINE)) for verb in ("made", "closed"))
    return made, closed
