"""How Sphinx builds these pages: ``python -m sphinx -W --keep-going docs docs/_build/html``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "hpolab"
author = "The hpolab developers"
project_copyright = "The hpolab developers, MIT license"
version = release = version_of("hpolab")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    # Ours, in `_extensions`.
    "constants",
    "from_code",
    "names_as_links",
    "programs",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "README.md"]

# Pages.
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Reference: one page a family, written by hand as a list of names; the text is the docstrings'.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
autodoc_class_signature = "mixed"
add_module_names = False
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "py:obj"
toc_object_entries_show_parents = "hide"

# Quotes and dashes stay as they are typed: many are code.
smartquotes = False

# Looks.
html_theme = "furo"
html_title = f"hpolab {release}"
html_static_path = ["_static"]
html_css_files = ["hpolab.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# `python -m sphinx -b linkcheck docs docs/_build/links`: it needs the internet.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 8
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)"]
# Pages whose anchors are made by a script.
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]
