"""The pytest plugin: one loop of ours for all tests of a session. Its guide is docs/how-to/pytest-plugin.md.

pytest loads this module by its entry point wherever the package is installed. It does nothing but to add its settings
and its mark, and imports neither asyncio nor Twisted, until ``bridge = true`` stands in the ini file or a test has the
mark ``bridge``. Then it registers the plugin of :mod:`bridge.ext._testing.plugin`, which does the work.
"""

from __future__ import annotations

import pytest

_ACTIVE = "bridge-active"
_MARK = (
    "bridge(loop_scope=None, in_thread=False, leftovers=None, unseen=None): run the test on a loop of bridge, which "
    "asyncio, anyio and Twisted share; see docs/how-to/pytest-plugin.md"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of the ini file."""
    parser.addini("bridge", "run all tests on a loop of bridge", type="bool", default=False)
    parser.addini(
        "bridge_loop_scope",
        "for what one loop of bridge lasts: session, module, class or function",
        default="session",
    )
    parser.addini(
        "bridge_leftovers",
        "what a test gets that leaves tasks, delayed calls, ports or threads: error or ignore",
        default="error",
    )
    parser.addini(
        "bridge_unseen",
        "what a test gets during which an error reaches nobody, and is only logged: error or ignore",
        default="error",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and begin if the ini file says so."""
    config.addinivalue_line("markers", _MARK)
    if config.getini("bridge"):
        _activate(config)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Begin with the first test that has the mark."""
    if item.get_closest_marker("bridge") is not None:
        _activate(item.config)


def _activate(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(_ACTIVE):
        from ._testing.plugin import Plugin

        config.pluginmanager.register(Plugin(config), _ACTIVE)
