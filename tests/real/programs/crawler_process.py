"""Start a CrawlerProcess twice. Arguments: the address, its class, and whether the program has called before."""

from __future__ import annotations

import sys

from scrapy import crawler
from spider import SETTINGS, Links
from twisted.internet.error import ReactorAlreadyRunning, ReactorNotRestartable

import bridge

url, name, before = sys.argv[1:]
if before == "called":
    bridge.block_on(lambda: None)
else:
    bridge.install()
for refused in (ReactorAlreadyRunning,) if before == "called" else (None, ReactorNotRestartable):
    found: list[str] = []
    process = getattr(crawler, name)(SETTINGS)
    process.crawl(Links, url=url, found=found)
    if refused is None:
        process.start()
        assert sorted(found) == ["", "a", "b"], found
    else:
        try:
            process.start(install_signal_handlers=False)  # for these it would leave a function to the next start
        except refused as error:
            message = str(error)
        assert message.startswith(f"{name}.start() runs the reactor, which "), message
        assert "\n    block_on(lambda: CrawlerRunner(settings).crawl(MySpider))  # " in message, message
        assert ("bridge.install()" in message) == (before == "called"), message
found = []
bridge.block_on(lambda: crawler.CrawlerRunner(SETTINGS).crawl(Links, url=url, found=found))
assert sorted(found) == ["", "a", "b"], found
