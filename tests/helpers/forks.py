"""Children whose fork has called no fork hooks, as of a server that is written in C."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable


def status_in_unseen_child(work: Callable[[], object]) -> int:
    """Call a function in a child whose fork has called no hooks. Return its status: 0, or 1 if the function raised."""
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # the child may not go on in the parent's code, whatever it is
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
