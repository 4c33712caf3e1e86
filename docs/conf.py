"""Sphinx: the pages of this folder, and the API from the docstrings. Built by scripts/build_docs.sh."""

import importlib.util

from vocalsep_jax import __version__

project = "vocalsep_jax"
copyright = "the authors of vocalsep_jax, Apache-2.0"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

apidoc_modules = [
    {
        "path": "../vocalsep_jax",
        "destination": "api",
        "separate_modules": True,
        "module_first": True,
        "max_depth": 2,
    }
]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"  # what stands in single backticks


# What an extra brings may be absent where only the pages are wanted.
autodoc_mock_imports = [
    name
    for name in ("torch", "tensorflow", "tensorflow_datasets", "clu", "ml_collections")
    if importlib.util.find_spec(name) is None
]


# Napoleon takes what is before the first colon of a variable's docstring for its type: hide them from it.
_hidden: dict[str, list[str]] = {}


def _hide(app, what, name, obj, options, lines):
    if what in ("data", "attribute"):
        _hidden[name] = lines[:]
        lines.clear()


def _show(app, what, name, obj, options, lines):
    if name in _hidden:
        lines[:] = _hidden.pop(name)


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _hide, priority=100)
    app.connect("autodoc-process-docstring", _show, priority=900)


html_theme = "furo"
html_title = "vocalsep_jax"
