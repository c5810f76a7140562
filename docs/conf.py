"""The site: ``nox -s docs`` builds it from this folder, with every warning an error."""

from __future__ import annotations

import inspect
import re

from sphinx.application import Sphinx

import bridge

project = "bridge"
author = "The bridge authors"
copyright = "The bridge authors, under the MIT licence"
version = release = bridge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False  # the standard library and Twisted would have to be looked up in the net

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "fieldlist"]

autodoc_typehints = "none"  # the overloads would fill the page; docstrings say what an argument may be
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"bridge {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched from the pages found, which a browser refuses for files
# The address is not known to the build: everything, the search too, works from a folder of files.
html_theme_options = {"navigation_with_keys": True}


_REFERS = re.compile(r"Arguments and errors are those of :meth:`Bridge\.(\w+)`\.")


def _fields(name: str) -> list[str]:
    """Return the part of the docstring of a method of Bridge that lists arguments, result and errors."""
    lines = inspect.cleandoc(getattr(bridge.Bridge, name).__doc__).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(":"))
    return lines[first:]


def _complete(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Give a plain function the arguments and errors of the method that its docstring refers to."""
    for number, line in enumerate(lines):
        found = _REFERS.search(line)
        if found:
            before = line.replace(found[0], "").strip()
            lines[number : number + 1] = [*([before] if before else []), "", *_fields(found[1])]
            return


def setup(app: Sphinx) -> None:
    """Register what changes docstrings on their way into the reference."""
    app.connect("autodoc-process-docstring", _complete)
