"""Settings of the documentation: ``python -m sphinx -W -b html docs docs/_build``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import minigrad  # noqa: E402

# Pages run in kernels of their own: these import the same tree, print plain text, and keep machine code as users do.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ["MINIGRAD_ROOT"] = str(ROOT)
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

project = "minigrad"
author = "the minigrad authors"
copyright = "the minigrad authors"
version = release = minigrad.__version__

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton",
    "myst_nb", "links", "mathml", "notebooks", "public_names", "repository_pages"]
exclude_patterns = ["_build", "_notebooks", "jupyter_execute", "peers"]
needs_sphinx = "8.0"
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"minigrad {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
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
