"""Fixtures of the tests beside other people's software: the servers that they need."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers import redis_server


@dataclass
class Postgres:
    """A PostgreSQL server of the tests' own, on a Unix socket that stands in a folder."""

    folder: str
    user: str = "postgres"
    database: str = "postgres"

    @property
    def url(self) -> str:
        """The address for SQLAlchemy's asyncpg."""
        return f"postgresql+asyncpg://{self.user}@/{self.database}?host={self.folder}"


def _programs() -> Path | None:
    """Return the folder with the programs of PostgreSQL: that on the path, or the newest of Debian's."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return installed[-1] if installed else None


def _as_another_user(folder: str) -> dict[str, Any]:
    """Return the options of subprocess by which a server runs that refuses to run as root, and give it the folder."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody to run it")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that runs for as long as the tests do, without any password."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine; get it by apt-get install postgresql")
    # Short, for the path of a socket may have 107 characters only.
    with tempfile.TemporaryDirectory(prefix="bridge-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **_as_another_user(folder)}
        data, log = os.path.join(folder, "data"), os.path.join(folder, "log")
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
        made = subprocess.run(
            [*initdb, "--locale=C"], **options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
        assert made.returncode == 0, made.stdout.decode()
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "60"}
        arguments = [part for name, each in settings.items() for part in ("-c", f"{name}={each}")]
        with open(log, "wb") as written:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *arguments], **options, stdout=written, stderr=subprocess.STDOUT
            )
        try:
            ready = [programs / "pg_isready", "-q", "-h", folder]
            give_up = time.monotonic() + 30
            while subprocess.run(ready, **options, timeout=10).returncode != 0:
                assert server.poll() is None, Path(log).read_text()
                assert time.monotonic() < give_up, Path(log).read_text()
                time.sleep(0.05)
            yield Postgres(folder)
        finally:
            server.send_signal(signal.SIGINT)  # which ends its sessions, too
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """The port of a Redis server that runs for as long as the tests do."""
    with redis_server() as port:
        yield port
