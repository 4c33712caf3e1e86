import argparse
import inspect

import pytest

from vocalsep_jax.separation.arguments import SEPARATOR_OPTIONS, add_separator_options, separator_options
from vocalsep_jax.separation.separator import Separator


def test_what_is_not_given_is_as_the_separator_has_it():
    parser = argparse.ArgumentParser()
    add_separator_options(parser)
    given = separator_options(parser.parse_args([]))
    parameters = inspect.signature(Separator).parameters
    assert given == {name: x.default for name, x in parameters.items() if name != "checkpoint"}


def test_what_is_given():
    parser = argparse.ArgumentParser()
    add_separator_options(parser)
    flags = ["--overlap=0.5", "--shifts=2", "--batch-size=3", "--dtype=bfloat16", "-d", "cpu", "--wiener"]
    assert separator_options(parser.parse_args(flags)) == {
        "overlap": 0.5,
        "shifts": 2,
        "batch_size": 3,
        "dtype": "bfloat16",
        "device": "cpu",
        "wiener": True,
    }


def test_some_of_them_in_a_group():
    parser = argparse.ArgumentParser()
    add_separator_options(parser.add_argument_group("some"), "shifts", "wiener")
    assert vars(parser.parse_args([])) == {"shifts": 1, "wiener": False}
    assert set(SEPARATOR_OPTIONS) > {"shifts", "wiener"}
    with pytest.raises(SystemExit):
        parser.parse_args(["--overlap", "0.5"])
