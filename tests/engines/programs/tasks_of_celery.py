"""Tasks of Celery's, in each way to write them."""

from __future__ import annotations

import os
from typing import Any

import work
from celery import Celery

from bridge import block_on, blocking, in_caller

app = Celery("tasks_of_celery", broker=os.environ["ENGINES_REDIS"], backend=os.environ["ENGINES_REDIS"])
app.conf.update(
    # What was taken by a worker that is killed goes to another one.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"max_connections": 100},  # 10 are fewer than greenlets that acknowledge at once
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # A process of the pool that ends has told all that it will, and one that starts may take its time.
    worker_lost_wait=0.1,
    worker_proc_alive_timeout=60,
)


@app.task
@blocking
async def a_coroutine(number: int) -> int:
    return await work.by_asyncio(number)


@app.task
def blocks_on_asyncio(number: int) -> int:
    return block_on(work.by_asyncio(number))


@app.task
def blocks_on_twisted(number: int) -> int:
    return int(block_on(lambda: work.by_twisted(number)))


@app.task
def meets(number: int, together: int) -> int:
    return work.meets(number, together)


@app.task
def held(number: int, key: str) -> int:
    return work.held(number, key)


@app.task(bind=True, max_retries=3)
@blocking
async def tried_again(self: Any, number: int) -> list[int]:
    """What Celery keeps by thread is asked in the thread of the task."""
    retries = await in_caller(lambda: self.request.retries)
    if retries < 2:
        await in_caller(lambda: self.retry(countdown=0))
    return [await work.by_asyncio(number), retries]
