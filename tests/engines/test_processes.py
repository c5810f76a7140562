"""Processes of concurrent.futures and multiprocessing whose tasks block, by every method to start them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("kind", ["executor", "pool"])
def test_every_task_ends_though_a_process_is_killed_and_nothing_grows(
    kind: str, method: str, run: Callable[..., str]
) -> None:
    assert run("processes_engine.py", kind, method) == ""
