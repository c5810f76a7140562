"""The client for each process of docs/how-to/clients.md, in Celery's pools; with the signal of its page in prefork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS
from kept import kept_client, made_and_closed
from paths import PACKAGES

PROGRAMS = Path(__file__).with_name("programs")
SIGNAL = "@worker_process_shutdown.connect\ndef end(**_"

pytestmark = pytest.mark.process


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_closes_the_clients_of_its_processes(pool: str, redis: str, tmp_path: Path) -> None:
    assert SIGNAL in (DOCS / "how-to" / "celery.md").read_text()
    assert SIGNAL in (PROGRAMS / "kept_in_celery.py").read_text()
    (tmp_path / "kept_client.py").write_text(kept_client())
    path = os.pathsep.join([PACKAGES, str(PROGRAMS), str(tmp_path)])
    environment = os.environ | {"PYTHONPATH": path, "ENGINES_REDIS": redis, "C_FORCE_ROOT": "1"}
    options = ["-P", pool, "-c", "2", "-l", "warning", "--without-gossip", "--without-mingle"]
    with (tmp_path / "log").open("w+b") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "kept_in_celery", "worker", *options],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            send = [sys.executable, PROGRAMS / "kept_in_celery.py"]
            answers = subprocess.run(send, env=environment, capture_output=True, text=True, timeout=90)
            assert (answers.stdout, answers.stderr) == ("190\n", "")
            worker.terminate()  # a warm stop
            assert worker.wait(40) == 0
        except BaseException:
            os.killpg(worker.pid, signal.SIGKILL)  # with the processes that run its tasks
            worker.wait()
            raise
    said = (tmp_path / "log").read_text()
    made, closed = made_and_closed(said)
    assert made == closed, said
    assert set(made.values()) == {1}
    assert len(made) <= 2 if pool == "prefork" else list(made) == [str(worker.pid)]
    assert "Traceback" not in said
