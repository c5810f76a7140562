"""The notebook in docs/, executed: it shows what it showed when it was written.

``python tests/ext/shell/test_shell_notebook.py`` executes it and writes it anew, after a change.
"""

from __future__ import annotations

import re

import pytest
from paths import ROOT
from sockets import socket_folder

pytestmark = [pytest.mark.process, pytest.mark.any_python]

NOTEBOOK = ROOT / "docs" / "how-to" / "tour.ipynb"
VARIES = "varies"  # the tag of a cell whose output differs from run to run


def executed(directory, sockets):
    """Return the notebook as it is now, and as it is after it has been run.

    :param directory: where it is run.
    :param sockets: the directory of the kernel's sockets.
    """
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")
    written = nbformat.read(NOTEBOOK, as_version=4)
    run = nbformat.read(NOTEBOOK, as_version=4)
    for cell in run.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    from traitlets.config import Config

    client = nbclient.NotebookClient(
        run,
        timeout=50,
        iopub_timeout=50,
        record_timing=False,
        coalesce_streams=True,
        config=Config(ConnectionFileMixin={"transport": "ipc", "ip": str(sockets / "kernel")}),  # as in shells.Kernel
        resources={"metadata": {"path": str(directory)}},
    )
    client.execute()
    return written, run


def shown(cell):
    """Return what a cell shows, without what differs between versions of IPython."""
    outputs = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if outputs and outputs[-1][0] == output.name:  # it comes in pieces
                outputs[-1] = (output.name, outputs[-1][1] + output.text)
            else:
                outputs.append((output.name, output.text))
        elif output.output_type == "error":
            outputs.append((output.ename, output.evalue))
        else:
            outputs.append((output.output_type, output.data["text/plain"]))
    return outputs


def facts(status):
    """Return the lines of ``%bridge`` that are the same in each run."""
    return re.findall(r"^  (?:loop|thread|reactor|strategy|calls|open calls) .*$", status["text/plain"], re.MULTILINE)


def test_notebook_shows_what_it_says(tmp_path, monkeypatch):
    from shells import environment

    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with socket_folder() as sockets:
        written, run = executed(tmp_path, sockets)
    code = [(before, after) for before, after in zip(written.cells, run.cells, strict=True) if "outputs" in before]
    assert len(code) > 10
    for before, after in code:
        if VARIES not in before.metadata.get("tags", ()):
            assert shown(after) == shown(before), before.source
    (error,) = [output for _, after in code for output in after.outputs if output.output_type == "error"]
    traceback = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    assert re.findall(r"line \d+", traceback) == ["line 5", "line 3"]
    assert "File " not in traceback  # only cells
    ((written_status, status),) = [
        (before.outputs[0].data, after.outputs[0].data)
        for before, after in code
        if VARIES in after.metadata.get("tags", ())
    ]
    assert facts(status) == facts(written_status)
    assert "forgotten" in status["text/html"]
    assert "<details>" in status["text/html"]


def test_notebook_has_nothing_of_the_machine_that_it_was_written_on():
    text = NOTEBOOK.read_text()
    assert not re.search(r"/(home|root|tmp|Users)/|/worktree|\d+\.\d+\.\d+\.\d+(?<!127\.0\.0\.1)", text)


if __name__ == "__main__":
    import nbformat

    with socket_folder() as made:
        notebook = executed(NOTEBOOK.parent, made)[1]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            for kind, text in output.get("data", {}).items():
                output.data[kind] = re.sub(r"(File (?:\"|&quot;))/[^\"&]*/", r"\1", text)  # this machine's directories
    nbformat.write(notebook, NOTEBOOK)
