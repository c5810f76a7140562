"""klein, whose app.run() runs the reactor: after the first call it says what to write, and that works."""

from __future__ import annotations

import pytest
from isolated import isolated

pytest.importorskip("klein")


@pytest.mark.any_python
@isolated(options=("-W", "error", "-W", "ignore::DeprecationWarning:klein"))
def test_run_after_the_first_call_says_what_to_write() -> None:
    import io
    import urllib.request
    from typing import Any

    import klein
    from twisted.internet.error import ReactorAlreadyRunning
    from twisted.web.server import Site

    from bridge import block_on

    app: Any = klein.Klein()
    app.route("/")(lambda request: "a page")
    assert block_on(lambda: "called") == "called"
    message = ""
    try:
        app.run("127.0.0.1", 0, logFile=io.StringIO())
    except ReactorAlreadyRunning as error:
        message = str(error)
    assert message.startswith("app.run() runs the reactor, which runs already, in the thread 'bridge'"), message
    assert "\n    block_on(lambda: reactor.listenTCP(8080, Site(app.resource())))  # serves" in message
    from twisted.internet import reactor

    port = block_on(lambda: reactor.listenTCP(0, Site(app.resource()), interface="127.0.0.1"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port.getHost().port}/", timeout=20) as response:
        assert response.read() == b"a page"
    block_on(port.stopListening)
