"""Figures are published: pages, pictures, and the one that shows the Pythons side by side."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bridge._cli.bench import tables, threads
from bridge._cli.bench.results import FREE, ONE_CORE, Results
from bridge._cli.bench.works import AT_ONCE, DEFERRED, SUSPENDS_ONCE

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # they are no package, and import each other by their bare names

page: Any = importlib.import_module("page")
pythons: Any = importlib.import_module("pythons")
rows: Any = importlib.import_module("rows")

PATIENCE = 200  # seconds for a program that draws, which takes some ten where nothing else runs
HERE = "{}.{}".format(*sys.version_info)

PLACES = "before\n<!-- {0} -->\nold\n<!-- end of {0} -->\nafter\n"


def a_site(folder: Path) -> tuple[Path, Path, Path]:
    """Make the pages that figures are put into: the folder of figures, the page for users, the README."""
    figures, users, readme = folder / "docs" / "figures", folder / "docs" / "explanation", folder / "README.md"
    figures.mkdir(parents=True)
    users.mkdir()
    (users / "performance.md").write_text(PLACES.format("table") + PLACES.format("latency"))
    readme.write_text(PLACES.format("latency"))
    return figures, users / "performance.md", readme


def publish(folder: Path) -> list[Path]:
    """Publish figures of Python 3.12, and return the folders in which the Pythons were drawn side by side."""
    drawn: list[Path] = []
    picture = folder / "latency.svg"
    picture.write_text("<svg>")
    page.publish("3.12", "the tables", "the summary", "the short table", [picture], drawn.append, folder)
    return drawn


def test_figures_go_where_they_are_read(tmp_path: Path) -> None:
    figures, users, readme = a_site(tmp_path)
    (figures / "3.9.md").write_text("older")
    publish(tmp_path)
    written = (figures / "3.12.md").read_text()
    assert "the tables" in written
    assert "the summary" in written
    assert written.startswith("---\norphan: true\nnosearch: true\n---\n")
    assert (figures / "latency.svg").exists()
    for path, inside_it in (
        (users, ["the short table", "](../figures/latency.svg)"]),
        (readme, ["](docs/figures/latency.svg)"]),
    ):
        text = path.read_text()
        assert text.startswith("before\n<!--")
        assert text.endswith("-->\nafter\n")
        assert "old" not in text
        assert all(part in text for part in inside_it)


def test_older_python_leaves_the_pictures_of_the_newest_alone(tmp_path: Path) -> None:
    figures, users, _ = a_site(tmp_path)
    before = users.read_text()
    (figures / "3.99.md").write_text("newer")
    drawn = publish(tmp_path)
    assert users.read_text() == before
    assert not (figures / "latency.svg").exists()
    assert drawn == [figures]  # which each publication changes


def test_page_without_a_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(ValueError, match="has no place for table"):
        page.fill(tmp_path / "page.md", "table", "text")


def test_pages_have_their_places() -> None:
    users = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    for name in ("table", "latency"):
        assert users.count(f"<!-- {name} -->") == users.count(f"<!-- end of {name} -->") == 1
    assert (ROOT / "README.md").read_text().count("<!-- latency -->") == 1


# --- the Pythons side by side


def made_up(version: str, scale: float = 1.0) -> Results:
    """Return results of the whole suite: each row takes ten µs, and a tenth more in every second batch."""
    results = Results({"bridge_python": f"Python {version}.1", "bridge_machine": "a machine, 2 cores",
                       "bridge_kernel": "Linux 6.1", "bridge_date": "2026-11-24"})  # fmt: skip
    for row in rows.all_rows().values():
        for placement in (ONE_CORE, FREE):
            samples = results.samples(row.name, placement, row.unit)
            samples.runs.append([scale * 1e-5 * (1 + turn % 2 / 10) for turn in range(20)])
            samples.close()
    return results


def a_page(version: str, scale: float = 1.0) -> str:
    """Return a page of figures that says what the made-up results are."""
    results, groups = made_up(version, scale), rows.groups()
    every = tables.markdown(results, [table for group in groups for table in group.tables])
    return f"# Figures\n\n{results.machine()}\n\n{every}\n"


def test_what_a_page_says_is_read_from_it() -> None:
    read = pythons.tables(a_page("3.12"))
    for group in rows.groups():
        for table in group.tables:
            for row in table.rows:
                if row.unit == "s":
                    assert read[table.title][row.label] == pytest.approx((10.0, 10.5, 11.0))


def test_times_of_every_scale_are_in_microseconds() -> None:
    for scale in (1e-2, 1.0, 1e2, 1e4, 1e6):
        read = pythons.tables(a_page("3.12", scale))
        expected = (10.0 * scale, 10.5 * scale, 11.0 * scale)
        assert read[AT_ONCE.title]["bridge.block_on"] == pytest.approx(expected, rel=0.05)


def test_panels_have_a_line_of_each_way_over_the_pythons() -> None:
    found = pythons.panels({"3.11": a_page("3.11"), "3.12": a_page("3.12", 2.0)})
    assert list(found) == [work.title for work in (AT_ONCE, SUSPENDS_ONCE, DEFERRED)]
    for lines in found.values():
        assert {threads.FLOOR.label, "asyncio.run_coroutine_threadsafe", "bridge.block_on"} <= set(lines)
        for line in lines.values():
            assert list(line) == ["3.11", "3.12"]
            assert line["3.12"] == pytest.approx([2 * each for each in line["3.11"]])


def test_python_without_a_row_has_a_gap() -> None:
    without = "".join(line for line in a_page("3.12").splitlines(True) if "run_coroutine_threadsafe" not in line)
    found = pythons.panels({"3.11": a_page("3.11"), "3.12": without})[AT_ONCE.title]
    assert list(found["asyncio.run_coroutine_threadsafe"]) == ["3.11"]
    assert list(found["bridge.block_on"]) == ["3.11", "3.12"]


def test_machines_are_named_once_each() -> None:
    pages = {"3.11": a_page("3.11"), "3.12": a_page("3.12"), "3.13": a_page("3.13").replace("a machine", "another")}
    assert pythons.machines(pages) == (
        "Python 3.11.1, 3.12.1: a machine, 2 cores; Linux 6.1; 2026-11-24.  "
        "Python 3.13.1: another, 2 cores; Linux 6.1; 2026-11-24"
    )


def test_pages_of_the_project_have_what_the_picture_shows() -> None:
    pages = {each.stem: each.read_text() for each in pythons.FIGURES.glob("3.*.md")}
    for lines in pythons.panels(pages).values():
        for label in (threads.FLOOR.label, "asyncio.run_coroutine_threadsafe", "bridge.block_on"):
            assert set(lines[label]) == set(pages)
    assert (pythons.FIGURES / pythons.NAME).exists()


def test_folder_without_figures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "3.12.md").write_text("nothing")
    with pytest.raises(ValueError, match="has the tables of"):
        pythons.draw(tmp_path)


# --- the programs, which draw


@pytest.mark.any_python
@pytest.mark.process
@pytest.mark.timeout(PATIENCE + 20)
def test_file_of_results_is_published_where_it_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install --group bench")
    figures, users, _ = a_site(tmp_path)
    made_up(HERE).save(tmp_path / "results.json")
    (figures / "3.9.md").write_text(a_page("3.9"))
    ended = report(tmp_path, "--publish")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"# Figures of Python {HERE}" in (figures / f"{HERE}.md").read_text()
    assert "bridge.block_on" in users.read_text()
    drawn = {path.name for path in figures.glob("*.svg")}
    assert {"growth.svg", "latency.svg", "pythons.svg"} <= drawn
    assert {f">{each}<" for each in ("3.9", HERE)} <= set(
        re.findall(r">3\.\d+<", (figures / "pythons.svg").read_text())
    )


@pytest.mark.process
def test_file_of_another_python_is_not_published(tmp_path: Path) -> None:
    a_site(tmp_path)
    made_up("3.9").save(tmp_path / "results.json")
    ended = report(tmp_path, "--publish")
    assert ended.returncode == 2
    assert "its targets are those of Python 3.9, and this is" in ended.stderr


@pytest.mark.process
def test_file_with_rows_that_are_not_known_is_not_published(tmp_path: Path) -> None:
    a_site(tmp_path)
    results = made_up(HERE)
    results.samples("at_once/gone", ONE_CORE).runs.append([1.0])
    results.save(tmp_path / "results.json")
    ended = report(tmp_path, "--publish")
    assert ended.returncode == 2
    assert "here are no such rows: at_once/gone" in ended.stderr


def report(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Report on the results in a folder that stands in for the project's."""
    program = Path(__file__).with_name("programs") / "run_on_a_site.py"
    command = [sys.executable, str(program), str(BENCHMARKS), str(folder), "--report", str(folder / "results.json"),
               "--output", str(folder / "output"), *options]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
