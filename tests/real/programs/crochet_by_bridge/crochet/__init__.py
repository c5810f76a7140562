"""The name ``crochet`` for bridge.ext.crochet, and crochet's own tests under it, from its distribution."""

from importlib.metadata import distribution

from bridge.ext.crochet import *  # noqa: F403

from ._eventloop import EventLoop, _store

__path__ = [*globals()["__path__"], str(distribution("crochet").locate_file("crochet"))]
__all__ = ["EventLoop", "_main", "_store"]
_main = EventLoop.of_the_module()
