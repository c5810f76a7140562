"""A loopback HTTP server in a thread, for clients that keep their connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _shown(method: str, path: str) -> bytes:
    return f"{method} {path}".encode()


class Pages(ThreadingHTTPServer):
    """Answers each request with its method and path, or what ``body`` makes of them.

    ``connections`` counts what clients have opened.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, body: Callable[[str, str], bytes] = _shown) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = body
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        """Accept a connection."""
        self.connections += 1
        return super().get_request()

    def handle_error(self, *more: object) -> None:
        """Do nothing: clients may leave as they like."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Pages

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = self.server.body(self.command, self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *more: object) -> None:
        pass


@contextmanager
def pages(body: Callable[[str, str], bytes] = _shown) -> Iterator[Pages]:
    """Serve while the block runs."""
    with Pages(body) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
