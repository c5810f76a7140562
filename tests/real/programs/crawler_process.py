"""Start a CrawlerProcess twice after bridge.install(). Arguments: the address and its class."""

from __future__ import annotations

import sys

from scrapy import crawler
from spider import SETTINGS, Links
from twisted.internet.error import ReactorNotRestartable

import bridge

url, name = sys.argv[1:]
bridge.install()
process = getattr(crawler, name)(SETTINGS)
found: list[str] = []
process.crawl(Links, url=url, found=found)
process.start()
assert sorted(found) == ["", "a", "b"], found

process = getattr(crawler, name)(SETTINGS)
process.crawl(Links, url=url, found=[])
message = ""
try:
    process.start(install_signal_handlers=False)  # for these it would leave a function to the next start
except ReactorNotRestartable as error:
    message = str(error)
assert message.startswith(f"{name}.start() runs the reactor, which was stopped, and "), message
assert "\n    block_on(lambda: CrawlerRunner(settings).crawl(MySpider))  # " in message, message

found = []
bridge.block_on(lambda: crawler.CrawlerRunner(SETTINGS).crawl(Links, url=url, found=found))
assert sorted(found) == ["", "a", "b"], found
