"""A spider, for programs that crawl as Scrapy's users do, with its default settings but for the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import scrapy

SETTINGS = {"LOG_LEVEL": "ERROR"}


class Links(scrapy.Spider):
    """Follows each link, and notes the paths of the pages."""

    name = "links"

    def __init__(self, url: str, found: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.url = url
        self.found = found

    async def start(self) -> AsyncIterator[Any]:
        yield scrapy.Request(self.url, self.parse)

    def parse(self, response: Any) -> Iterator[Any]:
        self.found.append(response.url.removeprefix(self.url))
        for link in response.css("a::attr(href)").getall():
            yield response.follow(link, self.parse)
