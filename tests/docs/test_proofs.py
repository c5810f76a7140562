"""docs/contributing/proofs.md names the tests behind the promises; the links between pages, as GitHub follows them."""

from __future__ import annotations

import re

from documents import DOCS, PAGES, name_of
from paths import ROOT, TESTS

PROOFS = DOCS / "contributing" / "proofs.md"


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(DOCS / "figures").glob("*.md"), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{name_of(page)} -> {target}"


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table, without heads."""
    lines = text.splitlines()
    heads = {number - 1 for number, line in enumerate(lines) if line.startswith("| --- ")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for number, line in enumerate(lines)
        if line.startswith("| ") and number not in heads and not line.startswith("| ---")
    ]


def test_every_test_that_the_proofs_name_exists() -> None:
    text = PROOFS.read_text()
    for row in table_rows(text.split("\n## Other pages\n")[0]):
        assert re.search(r"`test_\w+\.py::test_\w+`", row[-1]), f"no test is named in: {row}"
    named = re.findall(r"`(test_\w+)\.py::(\w+)`", text)
    for module, name in named:
        files = [file for file in TESTS.rglob(f"{module}.py") if "programs" not in file.parts]
        assert any(f"\ndef {name}(" in file.read_text() for file in files), f"there is no {module}.py::{name}"
    assert len(named) > 150
    for path in re.findall(r"`(tests/[\w./]+)`", text):
        assert (ROOT / path).exists(), f"there is no {path}"


def test_every_feature_that_crosses_has_its_proof() -> None:
    crossing = [row[0] for row in table_rows((DOCS / "reference" / "crossing.md").read_text())]
    proofs = PROOFS.read_text()
    proved = [row[0] for row in table_rows(proofs.split("\n## The end of a run\n")[0])]
    assert crossing == proved
