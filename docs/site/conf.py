"""Configuration of the documentation site: `make docs` builds it into build/site, offline.

The source folder is the checkout, so that the pages' links between docs/, README.md and CONTRIBUTING.md hold as they
do on GitHub.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import deblend_assets  # noqa: E402
from site_extensions.inventories import compiled  # noqa: E402

project = "deblend_assets"
author = copyright = "The deblend_assets developers"
version = release = deblend_assets.__version__

root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/notebooks/*.ipynb",
    "docs/sections/**",
    "docs/api/**",
    "storage/README.md",
    "benchmarks/README.md",
    "deblend_assets/weights/MODEL_CARD.md",
]
# Folders that hold no page: not walked.
exclude_patterns = [".*", "build", "storage/[!R]*", "assets_tests", "cluster", "*.egg-info", "deblend_assets/[!w]*"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "site_extensions.notebooks",
    "site_extensions.sections",
    "site_extensions.api_pages",
    "site_extensions.settings_keys",
    "site_extensions.docstrings",
    "site_extensions.signatures",
]
nitpicky = True
# What other packages define need not be in a bundled inventory.
nitpick_ignore_regex = [("py:.*", r"(?!deblend_assets\b).*")]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

add_module_names = False
maximum_signature_line_length = 88
default_role = "py:obj"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
# As a list: the fields of `:ivar:` would link to any object of the same name.
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Of files, never of the network.
intersphinx_mapping = compiled(HERE / "inventories", HERE.parents[1] / "build" / "inventories")

# MathJax as a package of PyPI ships it. Its SVG needs no fonts, which browsers refuse to pages opened from a folder.
mathjax_path = "tex-svg.js"
mathjax_file = str(files("sphinx-mathjax-offline") / "static" / "mathjax" / mathjax_path)

html_theme = "pydata_sphinx_theme"
html_title = f"deblend_assets {release}"
html_static_path = ["static", mathjax_file]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "deblend_assets"},
    "github_url": "https://github.com/deblend-assets/deblend_assets",
    "header_links_before_dropdown": 7,
    "collapse_navigation": True,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}
html_sidebars: dict[str, list[str]] = {"README": []}
