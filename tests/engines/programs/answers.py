"""An HTTP server that answers a request for /7 by 7, and others later.

It answers /meet/4/7 as soon as four such requests have come, and /held/key/7 after /open/key/7. It prints its port, and
ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

waiting: defaultdict[tuple[bytes, bytes], list[tuple[Answers, bytes]]] = defaultdict(list)
opened: set[bytes] = set()


class Answers(asyncio.Protocol):
    """One connection, which is kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            *how, number = request.split(b" ", 2)[1].removeprefix(b"/").split(b"/")
            match how:
                case [b"meet", together]:
                    waiting[b"meet", together].append((self, number))
                    if len(waiting[b"meet", together]) == int(together):
                        release(b"meet", together)
                case [b"held", key] if key not in opened:
                    waiting[b"held", key].append((self, number))
                case [b"open", key]:
                    opened.add(key)
                    release(b"held", key)
                    self.answer(number)
                case _:
                    self.answer(number)

    def answer(self, number: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))


def release(*how: bytes) -> None:
    for each, number in waiting.pop(how, []):
        if not each.transport.is_closing():  # its process may have been killed
            each.answer(number)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
