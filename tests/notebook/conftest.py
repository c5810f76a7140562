"""A JupyterLab of the tests' own, with a copy of the notebook of the docs."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import ROOT
from servers import free_port, serving
from shells import environment

NOTEBOOK = ROOT / "docs" / "how-to" / "tour.ipynb"


@dataclass
class Lab:
    """A server that runs, and the notebook in its folder."""

    address: str
    notebook: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server, on the loopback interface, with nothing of this user's and nothing from the net."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install --group notebook")
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / NOTEBOOK.name).write_text(_not_run(NOTEBOOK.read_text()))
    # No question about news from jupyter.org, and all cells in the page, not only those in the window.
    _write(
        home / "labconfig" / "page_config.json",
        disabledExtensions={"@jupyterlab/apputils-extension:announcements": True},
    )
    settings = home / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    _write(settings / "tracker.jupyterlab-settings", windowingMode="none")
    port, token = free_port(), secrets.token_hex()
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": token,
        "LabApp.extension_manager": "readonly",
        # Should the tests be killed, the server ends its kernels and itself.
        "MappingKernelManager.cull_idle_timeout": 300,
        "ServerApp.shutdown_no_activity_timeout": 300,
    }
    arguments = ["--no-browser", "--allow-root", *(f"--{name}={value}" for name, value in options.items())]
    with serving([sys.executable, "-m", "jupyterlab", *arguments], port, env=environment(home), cwd=folder):
        yield Lab(f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK.name}?token={token}", folder / NOTEBOOK.name)


def _not_run(text: str) -> str:
    """Return a notebook without what its cells have shown."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook)


def _write(path: Path, **settings: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(settings))
