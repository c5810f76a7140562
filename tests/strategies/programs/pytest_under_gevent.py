"""Runs pytest in a process that gevent has patched. Arguments: those of pytest."""

import sys

from gevent import monkey

monkey.patch_all()

import pytest  # noqa: E402 - after the patch

sys.exit(pytest.main(sys.argv[1:]))
