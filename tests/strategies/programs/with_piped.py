"""Registers the strategy of a user's and runs pytest. Arguments: those of pytest."""

import sys

import piped
import pytest

piped.register()
sys.exit(pytest.main(sys.argv[1:]))
