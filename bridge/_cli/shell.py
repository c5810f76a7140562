"""``python -m bridge shell``: IPython with the bridge running and the extension loaded."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from .._api.default import default_bridge
from .._runs.exit import callers

# Seconds that threads with failed calls have to end, before IPython clears the user's namespace.
_GRACE = 10.0

_BANNER = """\
bridge: a loop with Twisted's reactor on it runs in the thread 'bridge'.
  await x        x: a coroutine, a Deferred or a Future; and async for, async with
  x              as a last expression shows its value, as %autoblock says
  block_on(x)    in plain functions; blocking(obj): a sync view of an async object
  loop, reactor  belong to that thread, and so does the code of a %%loop cell
  %bridge        the calls that are open, with their stacks
"""

_MISSING = """\
python -m bridge shell needs IPython, and this Python ({python}) has none: {error}.
Install it with the extra: pip install 'bridge-interop[shell]'
"""


def main(arguments: list[str]) -> int:
    """Run the shell until the user leaves it, and return the exit status.

    :param arguments: for IPython, as on its own command line.
    :raises SystemExit: IPython's, for wrong arguments.
    """
    try:
        importlib.import_module("IPython")
        ipapp: Any = importlib.import_module("IPython.terminal.ipapp")
        traitlets: Any = importlib.import_module("traitlets.config")
    except ModuleNotFoundError as error:
        if error.name not in ("IPython", "traitlets"):
            raise
        sys.stderr.write(_MISSING.format(python=sys.executable, error=error))
        return 1
    config: Any = traitlets.Config()
    config.TerminalInteractiveShell.banner2 = _BANNER
    app: Any = ipapp.TerminalIPythonApp.instance(config=config)
    try:
        # As an argument, which adds to the extensions that the user's own configuration loads.
        app.initialize(["--ext=bridge", *arguments])
        app.shell.interact = _closing(app.shell.interact)
        app.start()
    finally:
        default_bridge().close()
    return 0


def _closing(interact: Callable[[], None]) -> Callable[[], None]:
    """Return a function that interacts and then closes the bridge.

    Calls that wait in other threads raise BridgeClosed, so that no thread keeps the process from ending. IPython then
    clears the user's namespace. These threads may need that, so wait until they have ended.
    """

    def interact_and_close() -> None:
        interact()
        bridge = default_bridge()
        failed = [] if bridge.last_run is None else callers(bridge.last_run)
        bridge.close()
        deadline = time.monotonic() + _GRACE
        for thread in failed:
            thread.join(max(0.0, deadline - time.monotonic()))

    return interact_and_close
