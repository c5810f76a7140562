"""Crawl again and again by block_on. Arguments: the address, and what the program did before the first crawl."""

from __future__ import annotations

import sys

from bridge import block_on

url, before = sys.argv[1:]
if before == "called":
    assert block_on(lambda: "called") == "called"
    assert "twisted" not in sys.modules
else:
    from twisted.internet import asyncioreactor

    asyncioreactor.install()

from scrapy.crawler import AsyncCrawlerRunner, CrawlerProcess, CrawlerRunner  # noqa: E402
from scrapy.utils.reactor import verify_installed_reactor  # noqa: E402
from spider import SETTINGS, Links  # noqa: E402

for runner in CrawlerRunner, CrawlerRunner, CrawlerRunner, AsyncCrawlerRunner:
    found: list[str] = []
    block_on(lambda runner=runner, found=found: runner(SETTINGS).crawl(Links, url=url, found=found))
    assert sorted(found) == ["", "a", "b"], found

from twisted.internet import reactor  # noqa: E402
from twisted.internet.asyncioreactor import AsyncioSelectorReactor  # noqa: E402
from twisted.internet.error import ReactorAlreadyRunning  # noqa: E402

assert type(reactor) is AsyncioSelectorReactor
# What scrapy-playwright does where it starts.
verify_installed_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")

message = ""
try:
    CrawlerProcess(SETTINGS).start(stop_after_crawl=False, install_signal_handlers=False)
except ReactorAlreadyRunning as error:
    message = str(error)
assert message.startswith("CrawlerProcess.start() runs the reactor, which runs already, in the thread 'bridge'"), (
    message
)
assert "\n    block_on(lambda: CrawlerRunner(settings).crawl(MySpider))  # " in message, message
assert "\n    bridge.install()  " in message, message
