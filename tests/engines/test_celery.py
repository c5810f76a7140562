"""Tasks of Celery's that block, in each of its pools, with a real worker and a real Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_every_task_ends_though_a_worker_is_killed_and_nothing_grows(
    pool: str, run: Callable[..., str], redis: str
) -> None:
    assert run("celery_engine.py", pool, ENGINES_REDIS=redis) == ""
