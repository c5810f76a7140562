"""An HTTP server that answers a request for /7 by 7, and one for /4/7 by 7 too, as soon as four of such have come.

It prints its port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

meetings: defaultdict[bytes, list[tuple[Answers, bytes]]] = defaultdict(list)


class Answers(asyncio.Protocol):
    """One connection, which is kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            *together, number = request.split(b" ", 2)[1].removeprefix(b"/").split(b"/")
            if together:
                self.meet(together[0], number)
            else:
                self.answer(number)

    def meet(self, together: bytes, number: bytes) -> None:
        meeting = meetings[together]
        meeting.append((self, number))
        if len(meeting) == int(together):
            for each, its_number in meetings.pop(together):
                each.answer(its_number)

    def answer(self, number: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
