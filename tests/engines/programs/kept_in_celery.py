"""A task that asks the client of its process, as docs/how-to/clients.md makes it. As a program: send 20 of them."""

import os

from celery import Celery
from celery.signals import worker_process_shutdown
from kept_client import ask

from bridge import default_bridge

app = Celery("kept_in_celery", broker=os.environ["ENGINES_REDIS"], backend=os.environ["ENGINES_REDIS"])
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@worker_process_shutdown.connect
def end(**_: object) -> None:
    default_bridge().close()


@app.task
def task(number: int) -> int:
    return ask(number)


if __name__ == "__main__":
    print(sum(each.get(timeout=60) for each in [task.delay(number) for number in range(20)]))
