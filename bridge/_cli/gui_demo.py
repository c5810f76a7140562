"""The GUI demo: a window, a Twisted client and an asyncio client that feed its plot, and blocking code behind buttons.

The clients and their servers run on the bridge's loop, in its thread. The window runs in the main thread. It draws the
values that the clients append to two deques, also while the code behind a button is blocked. In an IPython that runs
the GUI, the window stays open beside the prompt and uses the default bridge. It is drawn while a cell is blocked too.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.basic import LineOnlyReceiver

from .._api.bridge import Bridge
from .._api.default import default_bridge
from .._errors import BridgeError, at
from .windows import Points, Window, make_window

HOST = "127.0.0.1"
KEPT = 120  # values kept of each client
EVERY = 0.05  # seconds between two values
ASKED = 1.0  # seconds until a question is answered
FRAME = 40  # milliseconds between two frames


def main(toolkit: str, seconds: float | None) -> int:
    """Run the demo until its window is closed, and return the exit status.

    :param seconds: close the window after this time, and press its buttons before; None to do neither.
    """
    try:
        window = make_window(toolkit)
    except (ImportError, RuntimeError) as error:
        print(error)
        return 1
    with Bridge("demo") as bridge:
        demo = Demo(bridge, window)
        demo.start()
        if seconds is not None:
            window.after(400, demo.press_all)
            window.after(int(seconds * 1000), window.close)
        window.run()
        demo.stop()
    print(demo.summary())
    return int(demo.failed or (seconds is not None and not demo.is_complete))


# Demos beside a prompt, until their windows are closed. This keeps them alive.
_open: set[Demo] = set()


def open_demo(toolkit: str) -> Demo:
    """Open the demo's window and return at once. Other code, such as IPython, has to run the GUI's loop.

    Closing the window stops its servers and clients, without waiting for them. The Future ``ended`` has the outcome.

    :raises ImportError: the toolkit is not installed; the message says how to get it.
    :raises RuntimeError: there is no screen.
    """
    window = make_window(toolkit)
    demo = Demo(default_bridge(), window)
    window.on_close(demo.end)
    demo.start()
    _open.add(demo)
    window.show()
    return demo


class Demo:
    """The servers, the clients, and the actions of the buttons."""

    def __init__(self, bridge: Bridge, window: Window) -> None:
        self._bridge = bridge
        self._window = window
        self.twisted: deque[float] = deque(maxlen=KEPT)
        self.asyncio: deque[float] = deque(maxlen=KEPT)
        self._counts = {"Twisted": 0, "asyncio": 0}
        self._frames = 0
        self._results: list[str] = []
        self._frames_while_blocked = 0
        self._stops: list[Callable[[], Any]] = []
        self.failed = False
        self.ended: concurrent.futures.Future[None] | None = None
        self._is_closed = False
        self._actions: dict[str, Callable[[], object]] = {
            "Ask Twisted": self._ask_twisted,
            "Ask asyncio": self._ask_asyncio,
            "Ask in vain": self._ask_in_vain,
        }

    # In the main thread.

    def start(self) -> None:
        """Start the servers and the clients, and add the buttons to the window."""
        self._bridge.block_on(self._start_twisted)
        self._bridge.block_on(self._start_asyncio())
        for text in self._actions:
            self._window.add_button(text, lambda text=text: self.press(text))  # type: ignore[misc]
        self._window.add_button("Close", self._window.close, stays=True)
        self._window.every(FRAME, self._draw)
        self._window.say("Press a button: its code blocks, and the window goes on.")

    def press(self, text: str) -> None:
        """Run the action of a button, which blocks in the GUI's own thread.

        :raises BridgeError: the window is closed.
        """
        if self._is_closed:
            raise BridgeError(
                "the window of the demo is closed, and its servers with it; open another" + at("window-closed")
            )
        frames = self._frames
        self._window.enable(False)
        self._window.say(f"{text}: blocked ...")
        try:
            result = self._actions[text]()
        except BridgeError as error:  # the window was closed meanwhile
            print(f"{text}: {error}")
            self._is_closed = True
            return
        except Exception as error:
            self.failed = True
            result = repr(error)
        if self._is_closed:  # while other windows are open, closing this one does not end the call
            return
        drawn = self._frames - frames
        self._frames_while_blocked += drawn
        self._results.append(f"{text}: {result}; {drawn} frames drawn meanwhile")
        self._window.say(self._results[-1])
        self._window.enable(True)

    def press_all(self) -> None:
        """Press every button in turn, for a demo without a user."""
        for text in self._actions:
            if not self._is_closed:
                self.press(text)

    def stop(self) -> None:
        """Stop the servers and the clients."""
        for stop in reversed(self._stops):
            self._bridge.block_on(stop, timeout=10.0)

    def end(self) -> None:
        """Start to stop the servers and clients, without waiting. Called when the window is closed."""
        self._is_closed = True
        _open.discard(self)
        self.ended = self._bridge.submit(self._stop_all())

    def close(self) -> None:
        """Close the window."""
        self._window.close()

    async def _stop_all(self) -> None:
        for stop in reversed(self._stops):
            stopped = stop()
            if stopped is not None:
                await stopped

    def __repr__(self) -> str:
        names = " or ".join(f"press({text!r})" for text in self._actions)
        return f"<the demo: {names} blocks like the button of that name, close() closes its window>\n{self.summary()}"

    def summary(self) -> str:
        """Return a summary in some lines: the buttons' results and the counts."""
        counted = ", ".join(f"{count} values from the {name} server" for name, count in self._counts.items())
        return "\n".join([*self._results, f"{self._frames} frames; {counted}"])

    @property
    def is_complete(self) -> bool:
        """Whether both clients have fed the window, every button has ended, and the window was drawn while blocked."""
        return all(self._counts.values()) and len(self._results) == 3 and self._frames_while_blocked > 0

    def _draw(self) -> None:
        self._frames += 1
        self._window.draw(
            [
                (f"Twisted client: {self._counts['Twisted']} values", _curve(self.twisted)),
                (f"asyncio client: {self._counts['asyncio']} values", _curve(self.asyncio)),
            ]
        )

    # The code behind the buttons.

    def _ask_twisted(self) -> str:
        answer: str = self._bridge.block_on(
            lambda: deferLater(self._bridge.reactor, ASKED, lambda: "a Deferred's result")
        )
        return answer

    def _ask_asyncio(self) -> str:
        return self._bridge.block_on(asyncio.sleep(ASKED, "a coroutine's result"))

    def _ask_in_vain(self) -> str:
        try:
            never: Deferred[None] = Deferred()
            self._bridge.block_on(never, timeout=ASKED)
        except TimeoutError:
            return "timed out, as it should"
        raise AssertionError("a Deferred fired that nobody fires")

    # The servers and clients. All of this runs on the loop's thread.

    def _start_twisted(self) -> None:
        reactor = self._bridge.reactor
        listening: Any = ServerFactory.forProtocol(_Sender)
        listening.reactor = reactor
        port = reactor.listenTCP(0, listening, interface=HOST)
        self._stops.append(port.stopListening)
        factory: Any = ClientFactory.forProtocol(_Receiver)

        def take(value: float) -> None:
            self._take("Twisted", self.twisted, value)

        factory.take = take
        connector = reactor.connectTCP(HOST, port.getHost().port, factory)
        self._stops.append(connector.disconnect)

    async def _start_asyncio(self) -> None:
        sending: list[asyncio.Task[None]] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sending.append(asyncio.create_task(_send(reader, writer)))

        server = await asyncio.start_server(connected, HOST, 0)
        client = asyncio.create_task(self._receive(server.sockets[0].getsockname()[1]))

        async def stop() -> None:
            client.cancel()
            server.close()
            await asyncio.wait([client, *sending])  # the senders end when their client disconnects

        self._stops.append(stop)

    async def _receive(self, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            while line := await reader.readline():
                self._take("asyncio", self.asyncio, float(line))
        finally:
            writer.close()

    def _take(self, name: str, values: deque[float], value: float) -> None:
        values.append(value)
        self._counts[name] += 1


def _curve(values: deque[float]) -> Points:
    listed = list(values)
    return [(number / (KEPT - 1), (value + 1) / 2) for number, value in enumerate(listed)]


def _wave(speed: float) -> bytes:
    return b"%.4f" % (0.9 * math.sin(speed * time.monotonic()))


class _Sender(LineOnlyReceiver):
    """Sends a value every EVERY seconds."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        """Start to send."""
        factory: Any = self.factory
        self._sending = LoopingCall(self._send)
        self._sending.clock = factory.reactor  # which may not be the global reactor
        self._sending.start(EVERY)

    def _send(self) -> None:
        self.sendLine(_wave(2.0))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: object = None) -> None:
        """Stop sending."""
        self._sending.stop()


class _Receiver(LineOnlyReceiver):
    """Receives the values."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        """Pass on a value."""
        factory: Any = self.factory
        factory.take(float(line))


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while not reader.at_eof():
            writer.write(_wave(3.1) + b"\n")
            await writer.drain()
            await asyncio.sleep(EVERY)
    except ConnectionError:
        pass
    finally:
        writer.close()
