"""Settings of the documentation: ``python -m sphinx -W -b html docs docs/_build``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import minigrad  # noqa: E402

# Pages run in kernels of their own: these import the same tree, print plain text, and keep machine code as users do.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

project = "minigrad"
author = "the minigrad authors"
copyright = "the minigrad authors"
version = release = minigrad.__version__

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton",
    "myst_nb", "drawings", "links", "mathml", "notebooks", "public_names", "repository_pages", "versions"]
exclude_patterns = ["_build", "jupyter_execute", "peers"]
needs_sphinx = "8.0"
templates_path = ["_templates"]

html_theme = "furo"
html_title = "minigrad"  # the version stands below it
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_sidebars = {"**": [
    "sidebar/brand.html", "versions.html", "sidebar/search.html", "sidebar/scroll-start.html",
    "sidebar/navigation.html", "sidebar/scroll-end.html"]}
html_baseurl = os.environ.get("MINIGRAD_DOCS_URL", "")  # links of notebooks lead there; else to files beside them
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_render_markdown_format = "gfm"

default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp, .go"
