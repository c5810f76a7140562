"""Tests that a worker of pytest-xdist's runs; test_project.py says how each ends."""

import ctypes
import time

import pytest
from hypothesis import given, strategies


@pytest.mark.timeout(0.1)
def test_hang():
    print("said before")
    time.sleep(100)


@pytest.mark.timeout(0.1)
def test_hang_with_the_gil():
    ctypes.PyDLL(None).sleep(100)  # ctypes keeps the GIL for a PyDLL


@given(strategies.lists(strategies.integers()))
def test_property(numbers):
    with open("examples", "a") as examples:
        examples.write(".")
    raise AssertionError("no shrinking")


def test_failure():
    raise AssertionError("another failure")


def test_success():
    pass
