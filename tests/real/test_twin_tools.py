"""What tools make of a twin and of the view of a class: Sphinx's autodoc, and a language server's completion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

jedi = pytest.importorskip("jedi")
pytest.importorskip("sphinx")

PROGRAMS = Path(__file__).parent / "programs"
LIBRARY = Path(__file__).parents[1] / "cli" / "twin" / "library"

pytestmark = [pytest.mark.process, pytest.mark.any_python]


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The texts that Sphinx makes of a twin and of the view of a class, by its autodoc."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    paths = [str(PROGRAMS), str(LIBRARY)]
    (source / "conf.py").write_text(f"import sys\nsys.path[:0] = {paths!r}\nextensions = ['sphinx.ext.autodoc']\n")
    directives = {
        "twin": [".. autoclass:: shelf.sync.Shelf", "   :members:", "   :show-inheritance:"],
        "view": [".. automodule:: documented", "   :members:"],
    }
    for name, lines in directives.items():
        (source / f"{name}.rst").write_text("\n".join([":orphan:", "", name, "====", "", *lines, ""]))
    (source / "index.rst").write_text("Index\n=====\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(source), str(built)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return {name: " ".join((built / f"{name}.txt").read_text().split()) for name in directives}


@pytest.mark.timeout(120)
def test_autodoc_documents_a_twin(documentation: dict[str, str]) -> None:
    text = documentation["twin"]
    assert "class shelf.sync.Shelf(name: str, *pages: Page | AsyncPage, order: Order = Order.UP," in text
    assert 'Bases: "Reader"' in text
    assert "get(number: int, *, default: str | Missing =" in text
    assert "Return a page's text." in text
    assert "classmethod connect(name: str, /, timeout: float = 5) -> Self" in text
    assert "property title: str The title, in capitals." in text
    assert "async get(" not in text


@pytest.mark.timeout(120)
def test_autodoc_documents_the_view_of_a_class(documentation: dict[str, str]) -> None:
    text = documentation["view"]
    assert "class documented.Shelf(name: str, *pages: AsyncPage, order: Order = Order.UP," in text
    assert "alias of" not in text
    assert "get(number: int, *, default: str | Missing =" in text
    assert "Return a page's text." in text
    assert "async get(" not in text


def completed(code: str) -> dict[str, Any]:
    """Return what a language server offers at the end of some code."""
    project = jedi.Project(LIBRARY, sys_path=[str(LIBRARY), *sys.path])
    return {each.name: each for each in jedi.Script(code, project=project).complete()}


def test_a_language_server_completes_a_twin() -> None:
    found = completed("from shelf.sync import Shelf\nshelf = Shelf('oak')\nshelf.")
    assert {"get", "read", "titles", "title", "cover", "opened"} <= found.keys()
    assert "get(number: int, *, default: str | Missing=MISSING, limit: int=DEFAULT_LIMIT) -> str" in (
        found["get"].docstring()
    )
    assert {"text", "following", "number"} <= completed("from shelf.sync import Shelf\nShelf('oak').read(3).").keys()
    assert {"close"} <= completed("from shelf.sync import Shelf\nShelf('oak').titles(3).").keys()
