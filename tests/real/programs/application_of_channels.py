"""Celery tasks of a Django project that tell the consumers of Channels about their work, over Redis."""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery
from channels.layers import get_channel_layer
from django.conf import settings

from bridge import block_on

URL = os.environ["REDIS"]
settings.configure(
    CHANNEL_LAYERS={
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [URL], "capacity": 2000}}
    }
)
django.setup()

app = Celery("tasks", broker=URL, backend=URL)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task
def notify(group: str, numbers: list[int]) -> tuple[int, int]:
    """Tell a group these numbers, and return the process, and how many descriptors it has then."""
    layer: Any = get_channel_layer()
    for number in numbers:
        block_on(layer.group_send(group, {"type": "done", "number": number}), timeout=20)
    return os.getpid(), len(os.listdir("/proc/self/fd"))
