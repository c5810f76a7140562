"""The site: built without a warning, complete, without a dead link, anchor or image, and searched without a server."""

from __future__ import annotations

import argparse
import html.parser
import inspect
import json
import re
import urllib.parse
from pathlib import Path

import pytest
from documents import DOCS, PAGES
from paths import ROOT, TESTS

import bridge
from bridge import __main__

pytestmark = pytest.mark.process


class Page(html.parser.HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.twice: list[str] = []
        self.without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (anchor := given.get("id")) in self.anchors:
            self.twice.append(str(anchor))
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        self.targets += [value for name in ("href", "src", "data") if (value := given.get(name)) is not None]
        if tag == "img" and not given.get("alt"):
            self.without_text.append(given.get("src") or "")


def parsed(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path.read_text()) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_no_link_anchor_or_image_is_dead(site: Path) -> None:
    pages = parsed(site)
    assert len(pages) > 40
    dead: list[str] = []
    links = 0
    for path, page in pages.items():
        for target in page.targets:
            split = urllib.parse.urlsplit(target)
            if split.scheme in ("https", "http", "mailto", "data"):
                continue
            links += 1
            file = (path.parent / urllib.parse.unquote(split.path)).resolve() if split.path else path
            anchor = urllib.parse.unquote(split.fragment)
            if not file.exists() or (file in pages and anchor not in pages[file].anchors):
                dead.append(f"{path.relative_to(site.resolve())} -> {target}")
    assert not dead, "\n".join(dead)
    assert links > 1000


def test_no_anchor_is_in_a_page_twice(site: Path) -> None:
    for path, page in parsed(site).items():
        assert not page.twice, f"{path.name}: {page.twice}"


def test_no_link_of_the_readme_or_the_changelog_is_dead(site: Path) -> None:
    """Links from outside docs/ into it, as they stand in a checkout; their anchors are those of the built pages."""
    pages = parsed(site)
    for text in (ROOT / "README.md", ROOT / "CHANGELOG.md"):
        links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", text.read_text())
        assert links
        for link in links:
            target, _, anchor = link.partition("#")
            assert (ROOT / target).exists(), f"{text.name} -> {link}"
            if anchor:
                built = site.resolve() / (ROOT / target).relative_to(DOCS).with_suffix(".html")
                assert anchor in pages[built].anchors, f"{text.name} -> {link}"


def test_the_notebook_links_to_nothing_beside_it() -> None:
    """It is downloaded alone."""
    notebook = json.loads((DOCS / "how-to" / "tour.ipynb").read_text())
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert re.findall(r"\]\((?!https?://)", text) == []


def test_every_image_has_words_for_who_does_not_see_it(site: Path) -> None:
    for path, page in parsed(site).items():
        assert not page.without_text, f"{path.name}: {page.without_text}"


def test_every_page_is_built_and_can_be_reached(site: Path) -> None:
    pages = parsed(site)
    for page in PAGES:
        if page != ROOT / "README.md":
            built = site.resolve() / page.relative_to(DOCS).with_suffix(".html")
            assert built in pages, f"{page.name} is not in the site"
    start = site.resolve() / "index.html"
    seen, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in seen or path not in pages:
            continue
        seen.add(path)
        todo += [(path.parent / urllib.parse.urlsplit(each).path).resolve() for each in pages[path].targets if each]
    generated = {"genindex.html", "search.html", "py-modindex.html"}
    assert {path for path in pages if path.name not in generated} <= seen


def test_nothing_is_loaded_from_the_net(site: Path) -> None:
    """So the pages and their search work offline, from a folder."""
    for path in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?://[^\"]+)\"", path.read_text())
        assert not loaded, f"{path.name} loads {loaded}"


def index_of(site: Path) -> dict[str, object]:
    text = (site / "searchindex.js").read_text()
    index: dict[str, object] = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return index


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["attach", "differ"], "errors"),
        (["close", "event"], "errors"),
        (["yield", "bad"], "errors"),
        (["reactornotrestart"], "errors"),
        (["signal", "main"], "errors"),
        (["celeri"], "how-to/celery"),
        (["crochet"], "how-to/from-crochet"),
        (["django"], "how-to/django"),
        (["flask"], "how-to/flask"),
        (["fastapi"], "how-to/fastapi"),
        (["locust"], "how-to/locust"),
        (["mcp"], "how-to/clients"),
        (["pdb"], "how-to/debugging"),
        (["pytest"], "how-to/pytest"),
    ],
)
def test_the_search_finds_pages_by_the_words_of_a_message(site: Path, words: list[str], page: str) -> None:
    """The index is read by a script that comes with the pages; it has the stems of words."""
    index = index_of(site)
    names: list[str] = index["docnames"]  # type: ignore[assignment]
    tables: list[dict[str, int | list[int]]] = [index["terms"], index["titleterms"]]  # type: ignore[list-item]
    for word in words:
        found = {
            names[number]
            for terms in tables
            for term, numbers in terms.items()
            if term.startswith(word)
            for number in _numbers(numbers)
        }
        assert page in found, f"{word} is found in {sorted(found)}"


def _numbers(value: int | list[int]) -> list[int]:
    return [value] if isinstance(value, int) else value


def test_the_figures_are_not_searched(site: Path) -> None:
    index = index_of(site)
    names: list[str] = index["docnames"]  # type: ignore[assignment]
    terms: dict[str, int | list[int]] = index["terms"]  # type: ignore[assignment]
    searched = {names[number] for numbers in terms.values() for number in _numbers(numbers)}
    assert "errors" in searched
    assert not any(name.startswith("figures/") for name in searched)


def test_the_reference_has_every_public_name_with_its_errors(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text()
    for name in bridge.__all__:
        assert f'id="bridge.{name}"' in page or name == "__version__", name
    for function in ("block_on", "submit", "map", "iterate", "in_thread"):
        text = page.split(f'id="bridge.{function}"')[1].split('id="bridge.')[0]
        assert "Raises" in text, function
        assert "Arguments and errors are those of" not in text, function


def test_the_reference_shows_the_signatures_that_are_so(site: Path) -> None:
    """Some of them stand on the page, since Sphinx cannot see that a bound method is one of our functions."""
    text = (DOCS / "reference" / "api.md").read_text()
    written = dict(re.findall(r"^\.\. autofunction:: bridge\.(\w+)(\(.*\))$", text, re.MULTILINE))
    assert written
    public = (TESTS / "project" / "public.txt").read_text()
    for name, signature in written.items():
        assert f"\n{name}{signature.replace('...', '<omitted>')}\n" in public, name


def test_the_reference_has_every_option(site: Path) -> None:
    options = (DOCS / "reference" / "options.md").read_text()
    for name in list(inspect.signature(bridge.Bridge).parameters)[1:]:
        assert f"| `{name}` |" in options, name
    commands = (DOCS / "reference" / "command-line.md").read_text()

    for name, command in __main__.COMMANDS.items():
        assert f"\n## {name}\n" in commands
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        for action in parser._actions:
            for option in action.option_strings:
                if option not in ("-h", "--help"):
                    assert option in commands.split(f"\n## {name}\n")[1].split("\n## ")[0], f"{name} {option}"
