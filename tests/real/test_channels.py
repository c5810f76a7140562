"""Channels: Celery tasks send to its groups over a real Redis, by one loop and its connections a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from paths import ENVIRONMENT, PACKAGES

from bridge import Bridge

pytest.importorskip("celery")
core = pytest.importorskip("channels_redis.core")

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).parent / "programs"
AT_ONCE = 800  # by one task
ALONE = 200  # by a task each


def test_a_thousand_messages_of_celery_tasks(redis_port: int, tmp_path: Path) -> None:
    from celery import Celery
    from celery.result import ResultSet

    url = f"redis://127.0.0.1:{redis_port}"
    variables = {"REDIS": url, "PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAMS)])}
    command = ["celery", "-A", "application_of_channels", "worker", "-P", "prefork", "-c", "2", "--loglevel", "WARNING"]
    log = tmp_path / "log"
    app = Celery(broker=url, backend=url)
    with Bridge("receiver", install_reactor=False) as bridge, log.open("wb") as output:
        # It waits on the server for five seconds at a time, as long as a socket of redis-py's does by default.
        host = {"address": url, "socket_timeout": 30}
        layer = bridge.block_on(lambda: core.RedisChannelLayer(hosts=[host], capacity=2000))
        channel = bridge.block_on(layer.new_channel())
        bridge.block_on(layer.group_add("group", channel))

        async def receive() -> list[Any]:
            return [(await layer.receive(channel))["number"] for _ in range(AT_ONCE + ALONE)]

        received = bridge.submit(receive())
        worker = subprocess.Popen(
            [sys.executable, "-m", *command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
            env=ENVIRONMENT | variables,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            name = "application_of_channels.notify"
            many = app.send_task(name, ["group", list(range(AT_ONCE))])
            alone = [app.send_task(name, ["group", [number]]) for number in range(AT_ONCE, AT_ONCE + ALONE)]
            answers = ResultSet([many, *alone], app=app).join_native(timeout=50)
            numbers = received.result(30)
            assert sorted(numbers) == list(range(AT_ONCE + ALONE))
            assert [each for each in numbers if each < AT_ONCE] == list(range(AT_ONCE))  # those of one task in order
            descriptors: dict[int, list[int]] = defaultdict(list)
            for process, count in answers:
                descriptors[process].append(count)
            assert len(descriptors) <= 2
            for counts in descriptors.values():
                assert max(counts) - min(counts) <= 8, counts  # no connection a call, nor a loop
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
            assert "Traceback" not in log.read_text(), log.read_text()
        finally:
            worker.kill()
            worker.wait()
            app.close()
        bridge.block_on(layer.close_pools())
