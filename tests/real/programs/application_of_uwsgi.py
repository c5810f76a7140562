"""A WSGI application that uWSGI loads before it forks: it has called in the parent already."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import treq

from bridge import block_on

URL = os.environ["PAGES"]


async def page() -> str:
    return await treq.text_content(await treq.get(URL + "a"))


warm = block_on(asyncio.sleep(0, os.getpid()))
assert block_on(page()) == "GET /a"
# By default uWSGI forks without the GIL. If another thread holds it then, such as the loop's, the worker waits for it
# for ever. Twisted's endpoint has a timer that ends 0.3 seconds after it has begun to connect.
time.sleep(float(os.environ["SETTLES"]))


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with what two calls have returned."""
    try:
        slept = block_on(asyncio.sleep(0.05, "slept"), timeout=20)
        said = f"{os.getpid() != warm} {slept} {block_on(page(), timeout=20)}"
    except BaseException as error:
        said = repr(error)
    start_response("200 OK", [])
    return [said.encode()]
