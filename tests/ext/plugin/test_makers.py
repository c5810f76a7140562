"""What the values of fixtures refer to."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from bridge.ext._testing.makers import held_by


async def returning() -> int:
    return 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_task_that_has_ended_at_once_refers_to_no_coroutine() -> None:
    """CPython 3.12.1 reads from address 0 if it is asked for the coroutine of such a task."""

    async def main() -> asyncio.Task[int]:
        options: Any = {"eager_start": True}
        return asyncio.Task(returning(), loop=asyncio.get_running_loop(), **options)

    task = asyncio.run(main())
    assert id(task) in held_by([task])


def test_a_task_that_runs_refers_to_what_its_coroutine_has() -> None:
    async def waiting(kept: object) -> None:
        await asyncio.sleep(0)
        del kept

    async def main() -> None:
        kept: list[int] = []
        task = asyncio.create_task(waiting(kept))
        await asyncio.sleep(0)
        assert id(kept) in held_by([task])
        await task

    asyncio.run(main())
