"""Sphinx: the pages of this folder, and the API from the docstrings. Built by scripts/build_docs.sh."""

import importlib.util
import re

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
autoclass_content = "both"  # of the class, and of its __init__
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
    for name in ("apache_beam", "torch", "tensorflow", "tensorflow_datasets", "clu", "ml_collections")
    if importlib.util.find_spec(name) is None
]


# Napoleon takes what is before the first colon of a variable's docstring for its type: hide them from it.
_hidden: dict[str, list[str]] = {}


def _hide(app, what, name, obj, options, lines):
    if what in ("data", "attribute"):
        _hidden[name] = lines[:]
        lines.clear()
    elif what == "class":
        lines[:] = _one_name_a_line(lines)


def _one_name_a_line(lines):
    """Attributes that share a line, `a, b: text`, as one line each: napoleon knows no such lists."""
    result, within = [], False
    for line in lines:
        within = line == "Attributes:" or (within and line[:1] in ("", " "))
        names, _, text = line.partition(": ")
        shared = within and re.fullmatch(r"  (\w+, )+\w+", names)
        result += [f"  {name.strip()}: {text}" for name in names.split(",")] if shared else [line]
    return result


def _show(app, what, name, obj, options, lines):
    if name in _hidden:
        lines[:] = _hidden.pop(name)


def _skip(app, what, name, obj, skip, options):
    """Fields stand in the docstrings of their classes already."""
    is_field = (
        what == "class" and not callable(obj) and not isinstance(obj, property | classmethod | staticmethod)
    )
    return True if is_field else None


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _hide, priority=100)
    app.connect("autodoc-process-docstring", _show, priority=900)
    app.connect("autodoc-skip-member", _skip)


html_theme = "furo"
html_title = "vocalsep_jax"
