"""Tests that pytest runs in its own process; test_project.py says how each ends."""

import os
import subprocess
import sys
import time

import pytest


def test_failure():
    raise AssertionError("another failure")


def test_unmarked_process():
    subprocess.run([sys.executable, "-c", ""])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # its time limit has a thread
def test_unmarked_fork():
    if not os.fork():
        os._exit(0)
    os.wait()


@pytest.mark.process
def test_marked_process():
    subprocess.run([sys.executable, "-c", ""])


@pytest.mark.timeout(0.1)
def test_hang():
    time.sleep(100)


def test_later():
    pass
