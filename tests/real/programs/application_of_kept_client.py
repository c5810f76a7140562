"""An application that asks the client of its process, and answers with the process's id."""

import os
from collections.abc import Callable
from typing import Any

from kept_client import ask


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    ask(1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
