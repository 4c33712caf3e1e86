import importlib

import pytest

from tests.conftest import ROOT
from vocalsep_jax.config import Config, parse, to_fields

pytest.importorskip("ml_collections", reason="needs the train extra")

PATHS = (ROOT / "configs").rglob("*.py")
NAMES = sorted(
    p.relative_to(ROOT / "configs").with_suffix("").as_posix() for p in PATHS if p.stem != "__init__"
)


def module(name):
    return importlib.import_module(f"configs.{name.replace('/', '.')}")


def get(name):
    return module(name).get_config()


def structure(tree):
    return {k: structure(v) if isinstance(v, dict) else type(v) for k, v in tree.items()}


def test_base_hands_out_the_defaults():
    """Which are the reference recipe: `test_config` has its numbers."""
    assert get("base").to_dict() == to_fields(Config())


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_one_that_training_takes(name):
    config = get(name)
    assert to_fields(parse(config)) == config.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_every_config_changes_fields_of_base_and_adds_none(name):
    config = get(name)
    assert config.name == name.split("/")[-1]
    assert structure(config.to_dict()) == structure(get("base").to_dict())


@pytest.mark.parametrize("name", NAMES)
def test_every_config_says_how_to_run_it_and_what_to_expect(name):
    text = module(name).__doc__
    for heading in ("Command:", "Duration:", "Expect:"):
        assert heading in text
    assert f"configs/{name}.py" in text


@pytest.mark.parametrize(
    ("name", "baseline", "fields"),
    [
        ("coseparation", "base", {
            "audio.sample_rate", "audio.n_fft", "audio.hop", "input_transform", "frequency_scale",
        }),
        ("transfer/transferred_raw", "transfer/scratch", {"init_encoder"}),
        ("transfer/transferred_log", "transfer/scratch_log", {"init_encoder"}),
        ("transfer/frozen", "transfer/transferred_log", {"freeze_encoder"}),
        ("transfer/scratch_log", "transfer/scratch", {
            "audio.sample_rate", "audio.n_fft", "audio.hop", "input_transform", "frequency_scale",
        }),
        ("transfer/pretrain", "transfer/scratch_log", {
            "data.builtin.train_songs", "data.builtin.valid_songs",
        }),
    ],
)  # fmt: skip
def test_what_is_compared_differs_in_what_it_says_only(name, baseline, fields):
    def flat(tree, prefix=""):
        for key, value in tree.items():
            yield from (
                flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
            )

    one, other = dict(flat(get(name).to_dict())), dict(flat(get(baseline).to_dict()))
    assert {key for key in one if one[key] != other[key]} == fields | {"name"}
