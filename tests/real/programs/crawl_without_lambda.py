"""Scrapy's runner, whose crawl() makes a task in the thread that calls it; first without a lambda, then with one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import scrapy
from scrapy.crawler import CrawlerRunner

import bridge

found: list[bool] = []


class Pages(scrapy.Spider):
    name = "pages"

    async def start(self) -> AsyncIterator[Any]:
        found.append(asyncio.get_running_loop() is bridge.default_bridge().loop)
        for url in ():
            yield scrapy.Request(url)


bridge.default_bridge().reactor  # noqa: B018 - it is put on the bridge's loop
asyncio.set_event_loop(asyncio.new_event_loop())
runner = CrawlerRunner({"TELNETCONSOLE_ENABLED": False, "TWISTED_REACTOR": None, "LOG_LEVEL": "CRITICAL"})
try:
    bridge.block_on(runner.crawl(Pages), timeout=30)
except bridge.BridgeError as error:
    print(error, flush=True)
bridge.block_on(lambda: runner.crawl(Pages), timeout=30)
print("crawled on the bridge's loop:", found)
