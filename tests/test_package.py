"""`import vocalsep_jax`."""

import subprocess
import sys

import pytest

import vocalsep_jax
from tests.conftest import ROOT


def test_importing_the_package_imports_neither_jax_nor_numpy():
    code = (
        "import sys, vocalsep_jax\n"
        "assert vocalsep_jax.__version__ and vocalsep_jax.__all__\n"
        "print({'jax', 'numpy', 'flax', 'soundfile'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_its_names_are_there_when_they_are_asked_for():
    from vocalsep_jax import Separator, train_and_evaluate
    from vocalsep_jax.separation import separator
    from vocalsep_jax.training import loop

    assert Separator is separator.Separator
    assert train_and_evaluate is loop.train_and_evaluate
    for name in vocalsep_jax.__all__:
        assert getattr(vocalsep_jax, name)


def test_a_name_that_there_is_not():
    with pytest.raises(AttributeError, match="module 'vocalsep_jax' has no attribute 'Seperator'"):
        _ = vocalsep_jax.Seperator
    with pytest.raises(ImportError, match="Seperator"):
        from vocalsep_jax import Seperator  # noqa: F401
