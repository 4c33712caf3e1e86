import json

import pytest

from vocalsep_jax.runs.folder import (
    FORMAT,
    Fields,
    RunError,
    config_path,
    differences,
    find_run,
    read_config,
    write_config,
)

CONFIG = {"name": "x", "batch_size": 8, "data": {"root": "a", "repair": 0.5, "valid_names": ("q",)}}


def test_a_config_is_written_with_its_format_and_versions(tmp_path):
    write_config(tmp_path, CONFIG, {"train": [], "valid": [["B", 5]]})
    content = read_config(tmp_path)
    assert content["format"] == FORMAT
    assert content["songs"]["valid"] == [["B", 5]]
    assert content["versions"]["jax"].count(".") == 2
    assert differences(content["config"], CONFIG) == []


def test_differences_name_fields_and_leave_out_what_may_change():
    new = {"name": "y", "batch_size": 16, "data": {"root": "b", "repair": 0.5, "extra": None}}
    assert differences(CONFIG, new) == [
        "batch_size: 8 -> 16",
        "data.extra: (absent) -> null",
        'data.valid_names: ["q"] -> (absent)',
    ]


def test_a_run_is_found_from_its_checkpoints(tmp_path):
    write_config(tmp_path, CONFIG, {})
    inner = tmp_path / "checkpoints" / "best" / "12"
    inner.mkdir(parents=True)
    assert find_run(inner) == find_run(tmp_path) == tmp_path
    with pytest.raises(RunError, match="no such checkpoint"):
        find_run(tmp_path / "missing")
    other = tmp_path.parent / "elsewhere"
    other.mkdir(exist_ok=True)
    with pytest.raises(RunError, match="not a run or checkpoint"):
        find_run(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "not the config of a run"),
        (json.dumps({"config": {}, "format": 99}), "written by a newer version"),
    ],
)
def test_unusable_configs(tmp_path, text, message):
    config_path(tmp_path).write_text(text)
    with pytest.raises(RunError, match=message):
        read_config(tmp_path)


def test_a_config_of_the_first_format_is_brought_up_to_date(tmp_path):
    old = {"name": "x", "model": {"width": 8, "input_transform": "log1p"}}
    config_path(tmp_path).write_text(json.dumps({"format": 1, "config": old}))
    config = read_config(tmp_path)["config"]
    assert config["model"] == {"width": 8}
    assert (config["input_transform"], config["frequency_scale"]) == ("log1p", "linear")


def test_fields_are_attributes_and_absent_ones_are_named():
    fields = Fields({"a": 1, "data": {"b": (2,), "deep": {"c": 3}}})
    assert (fields.a, fields.data.b, fields.data.deep.c) == (1, (2,), 3)
    with pytest.raises(RunError, match=r"no field data\.deep\.d; configs/base\.py has them all"):
        _ = fields.data.deep.d
