"""The documentation site: ``make docs`` builds it into ``build/docs`` without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import api_pages  # noqa: E402 - found by the line above
import mathml  # noqa: E402

from cellgraph import __version__  # noqa: E402

project = "cellgraph"
author = "the cellgraph authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
if not tags.has("quick"):  # noqa: F821 - Sphinx gives it
    # The sources, coloured, are half of the work.
    extensions.append("sphinx.ext.viewcode")
exclude_patterns = ["_build"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"cellgraph {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# A method that scikit-learn makes, with references into its own documentation.
autodoc_default_options = {"exclude-members": "set_score_request"}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes"]

# Every name of this library that a docstring refers to must be found; those of others have no inventory offline.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", rf"(?!{api_pages.PACKAGE}\b).*"), (r"py:.*", r".*\.(Self|_\w+)")]

#: Files beside this folder that are pages of the site.
PAGES = {"benchmarks/RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead links to files that are pages to the pages."""
    for file, inside in PAGES.items():
        source[0] = source[0].replace(f"](../{file}", f"]({inside}")


def setup(app: Sphinx) -> None:
    """Write the pages of the API before the sources are read, and find what is named by another of its names."""
    api_pages.write(DOCS / "api")
    app.connect("autodoc-process-signature", api_pages.signature)
    app.connect("source-read", link_to_pages)
    app.connect("doctree-read", api_pages.link_names)
    app.connect("missing-reference", api_pages.resolve)
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
