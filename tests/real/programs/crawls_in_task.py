"""Tasks of Celery's that crawl. As a program, with the address as its argument, it sends some and waits."""

from __future__ import annotations

import os
import sys

from celery import Celery
from scrapy.crawler import CrawlerRunner
from spider import SETTINGS, Links

from bridge import block_on

folder = os.environ["BROKER"]
app = Celery("crawls_in_task", broker="filesystem://", backend=f"file://{folder}")
app.conf.broker_transport_options = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), folder)
app.conf.worker_hijack_root_logger = False


@app.task
def crawl(url: str) -> list[str]:
    found: list[str] = []
    block_on(lambda: CrawlerRunner(SETTINGS).crawl(Links, url=url, found=found))
    return [*sorted(found), str(os.getpid())]


if __name__ == "__main__":
    from crawls_in_task import crawl as task  # under the name that the worker knows

    results = [task.delay(sys.argv[1]) for _ in range(6)]
    found = [result.get(timeout=40, interval=0.02) for result in results]
    assert all(each[:3] == ["", "a", "b"] for each in found), found
    print(len({each[3] for each in found}))
