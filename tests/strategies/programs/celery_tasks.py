"""Tasks of a Celery worker whose pool is gevent's, and, as a program, their caller: each runs a child process."""

import os
import subprocess
import sys

from celery import Celery

folder = os.environ["CELERY_FOLDER"]
queue = os.path.join(folder, "queue")
app = Celery("celery_tasks", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {"data_folder_in": queue, "data_folder_out": queue, "control_folder": folder}
app.conf.broker_connection_retry_on_startup = True


@app.task
def of_gevent(status):
    return subprocess.run(["/bin/sh", "-c", f"exit {status}"]).returncode


@app.task
def of_asyncio(status):
    import asyncio

    from bridge import block_on

    async def child():
        started = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {status}")
        return await started.wait()

    return block_on(child(), timeout=30)


@app.task
def of_anyio(status):
    import anyio

    from bridge import block_on

    async def child():
        return (await anyio.run_process(["/bin/sh", "-c", f"exit {status}"], check=False)).returncode

    return block_on(child(), timeout=30)


@app.task
def of_twisted(status):
    from bridge import block_on

    def child():
        from twisted.internet.utils import getProcessOutputAndValue

        return getProcessOutputAndValue("/bin/sh", ["-c", f"exit {status}"]).addCallback(lambda ended: ended[2])

    return block_on(child, timeout=30)


if __name__ == "__main__":
    tasks = [of_gevent, of_asyncio, of_anyio, of_twisted]
    sent = [task.delay(status) for status in range(4) for task in tasks]
    sys.stdout.write(f"{[each.get(timeout=60) for each in sent]}\n")
