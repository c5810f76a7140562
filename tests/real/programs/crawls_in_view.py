"""A view of Flask's crawls, in the threads of its server. Argument: the address."""

from __future__ import annotations

import logging
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from flask import Flask
from scrapy.crawler import CrawlerRunner
from spider import SETTINGS, Links
from werkzeug.serving import make_server

from bridge import block_on

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask(__name__)


@app.route("/")
def view() -> list[str]:
    found: list[str] = []
    block_on(lambda: CrawlerRunner(SETTINGS).crawl(Links, url=sys.argv[1], found=found))
    return sorted(found)


def get(_: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=30) as response:
        return response.read().decode().strip()


server = make_server("127.0.0.1", 0, app, threaded=True)
thread = threading.Thread(target=server.serve_forever)
thread.start()
with ThreadPoolExecutor() as pool:
    answers = {get(0), *pool.map(get, range(3))}
server.shutdown()
thread.join()
server.server_close()
assert answers == {'["","a","b"]'}, answers
