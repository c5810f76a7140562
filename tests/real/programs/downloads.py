"""Downloads many pages with a progress bar. Arguments: the address, how, and how many.

It writes a line when half of the pages are there, so that the test can interrupt it in the middle.
"""

import os
import sys

import aiohttp

import bridge
from bridge import as_completed, enter, submit

url, how, number = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def fetch(session, page):
    async with session.get(f"{url}{page}") as response:
        return len(await response.text())


def bar(results):
    """Put a progress bar around the results."""
    if how == "tqdm":
        from tqdm import tqdm

        return tqdm(results, total=number, mininterval=0)
    from rich.console import Console
    from rich.progress import track

    return track(results, total=number, console=Console(stderr=True, force_terminal=True))


def say_half(done):
    if done == number // 2:
        os.write(1, b"half\n")  # a bar of rich's takes sys.stdout for itself


def main(session):
    if how == "by hand":
        futures = [submit(fetch(session, page)) for page in range(number)]
        for done, future in enumerate(as_completed(futures)):
            future.result()
            say_half(done)
        return
    for done, size in enumerate(bar(bridge.map(lambda page: fetch(session, page), range(number), limit=8))):
        assert size == 1000
        say_half(done)
    os.write(1, b"all\n")


with enter(aiohttp.ClientSession) as session:
    main(session)
