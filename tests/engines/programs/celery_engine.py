"""Run Celery's worker with the pool that is named, and send it tasks: ``celery_engine.py prefork``.

A process is killed after the first part, while each of its tasks blocks. In the second part the worker must not grow.
Then it ends by SIGTERM. The file ``log`` has what the worker says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import work
from celery import group
from tasks_of_celery import a_coroutine, app, blocks_on_asyncio, blocks_on_twisted, held, meets, tried_again
from used import check, parts, used

from bridge import block_on

POOL = sys.argv[1]
AT_ONCE = {"prefork": 2, "threads": 4, "solo": 1, "gevent": 10}[POOL]
KINDS = [a_coroutine, blocks_on_twisted, blocks_on_asyncio, blocks_on_twisted]


def start() -> subprocess.Popen[bytes]:
    """Start a worker, whose output goes to the end of the log."""
    options = ["-P", POOL, "-c", str(AT_ONCE), "-l", "warning", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "-A", "tasks_of_celery", "worker", *options]
    return subprocess.Popen(command, stdout=log, stderr=log)


def all_are_taken(number: int) -> None:
    """Wait until the worker has taken so many messages, and the queue is empty.

    A worker that is killed between these two steps, to take a message and to note that it has it, loses the message.
    That is so with Redis, whatever the task does. So one is killed when it has no more to take.
    """
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        while channel.client.llen("celery") or channel.client.hlen(channel.unacked_key) != number:
            time.sleep(0.02)


def restore() -> None:
    """Put back what the killed worker had taken, as a worker does by itself after Celery's visibility time-out."""
    with app.connection_for_read(transport_options={"visibility_timeout": 0}) as connection:
        channel = connection.default_channel
        channel.client.delete(channel.unacked_mutex_key)  # the worker may have been killed while it had this
        channel.qos.restore_visible(num=None, interval=1)
        assert channel.client.hlen(channel.unacked_key) == 0


def kill(worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill a process whose tasks all block, and see each task end; return the worker that does them."""
    key = str(worker.pid)
    # Solo and gevent take no message more than they run; the others up to four times as many.
    numbers = range(AT_ONCE if POOL in ("solo", "gevent") else 3 * AT_ONCE)
    sent = group(held.s(number, key) for number in numbers).apply_async()
    all_are_taken(len(numbers))
    os.kill(those_of(worker)[0], signal.SIGKILL)
    if POOL != "prefork":  # the whole worker is one process
        assert worker.wait() == -signal.SIGKILL
        restore()
        worker = start()
    assert block_on(work.by_asyncio(f"open/{key}/0")) == 0
    assert sent.get() == list(numbers)
    return worker


def those_of(worker: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes that run tasks."""
    if POOL != "prefork":
        return [worker.pid]
    return [each.pid for each in psutil.Process(worker.pid).children()]


def send(numbers: range, *more: object) -> Any:
    return group([*(KINDS[number % 4].s(number) for number in numbers), *more]).apply_async()


def main() -> None:
    first, second = parts()
    worker = start()
    try:
        assert send(first, tried_again.s(8)).get() == [*first, [8, 2]]
        worker = kill(worker)
        assert group(meets.s(number, AT_ONCE) for number in range(AT_ONCE))().get() == list(range(AT_ONCE))
        before = used(those_of(worker))
        began = time.monotonic()
        assert send(second).get() == list(second)
        took = time.monotonic() - began
        check(before, used(those_of(worker)), AT_ONCE)

        noise = os.path.getsize("log")
        worker.terminate()
        assert worker.wait() == 0
        log.seek(noise)
        said = log.read().decode()
        assert said.split() == ["worker:", "Warm", "shutdown", "(MainProcess)"], said
        sys.stdout.write(f"{len(second) / took:.0f} tasks a second\n")
    finally:
        for each in (*psutil.Process(worker.pid).children(), worker) if worker.poll() is None else ():
            each.kill()
        worker.wait()


if __name__ == "__main__":
    with open("log", "w+b") as log:
        main()
