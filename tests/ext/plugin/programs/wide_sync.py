"""What fixtures of wider scopes make while sync tests and those of trial run: it is theirs, and goes on."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from twisted.internet import reactor
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial import unittest

from bridge import block_on


@pytest.fixture(scope="session")
def turns():
    counted = []
    looping = LoopingCall(lambda: counted.append(1))
    looping.start(0.03)
    yield counted
    assert looping.running
    looping.stop()


@pytest.mark.usefixtures("turns")
class OfTrial(unittest.TestCase):
    def test_waits(self):
        return deferLater(reactor, 0.1)

    def test_waits_again(self):
        return deferLater(reactor, 0.1)


def test_looping_call_goes_on(turns):
    before = len(turns)
    block_on(deferLater(reactor, 0.1))
    assert len(turns) > before


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_first_use_of_a_pool(pool):
    assert pool.submit(lambda: 1).result() == 1


@pytest.fixture(scope="module")
def started():
    """Threads that a thread of the fixture's starts when it is asked to."""
    asked, done, ended = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()

    def start():
        while asked.get():
            thread = threading.Thread(target=ended.wait)
            thread.start()
            done.put(thread)

    first = threading.Thread(target=start)
    first.start()
    yield asked, done
    asked.put(False)
    ended.set()
    first.join()


def test_thread_of_a_fixtures_thread(started):
    asked, done = started
    asked.put(True)
    assert done.get().is_alive()


def test_leaves_a_call_from_a_thread(started, turns):
    thread = threading.Thread(target=reactor.callFromThread, args=(reactor.callLater, 100, late))
    thread.start()
    thread.join()
    block_on(deferLater(reactor, 0.01))


def late():
    pass


@pytest.fixture(scope="module")
def forgetful():
    yield
    reactor.callLater(100, late)


def test_last(forgetful):
    pass
