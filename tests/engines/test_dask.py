"""Tasks of Dask distributed that block, in a cluster of processes and in one of threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from paths import PACKAGES

pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]


@pytest.mark.parametrize("workers", ["processes", "threads"])
def test_every_task_ends_though_a_worker_ends_and_nothing_grows(workers: str, run: Callable[..., str]) -> None:
    said = run("dask_engine.py", workers)
    before, _, after = said.partition("ending\n")
    assert after == "", said
    assert f'File "{PACKAGES}' not in before, said  # it is Dask that reports the worker
