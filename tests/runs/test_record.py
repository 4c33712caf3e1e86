import json

import pytest

from tests import old_runs
from vocalsep_jax.config import FORMAT, Config, parse, to_fields
from vocalsep_jax.runs.folder import RunError, config_path
from vocalsep_jax.runs.record import RunRecord, read_record, write_record

CONFIG = parse({"name": "x", "data": {"root": "a", "remix": 0.5, "valid_names": ["q"]}})
FIELDS = to_fields(CONFIG)


def write(run, content):
    config_path(run).write_text(content if isinstance(content, str) else json.dumps(content))


def test_what_is_written_is_read(tmp_path):
    record = RunRecord(CONFIG, {"train": [("A - One", 7)], "valid": [("B", 5), ("C", 6)]})
    write_record(tmp_path / "new", record)
    assert read_record(tmp_path / "new") == record
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["config.json"]


def test_the_file_says_its_format_and_the_versions_of_packages(tmp_path):
    write_record(tmp_path, RunRecord(CONFIG, {}))
    content = json.loads(config_path(tmp_path).read_text())
    assert list(content) == ["format", "config", "songs", "versions"]
    assert content["format"] == FORMAT == 5
    assert content["config"]["data"]["remix"] == 0.5
    assert content["versions"]["jax"].count(".") == 2


@pytest.mark.parametrize("format", old_runs.FORMATS)
def test_a_run_of_an_earlier_format_is_read_and_written_in_this_one(tmp_path, format):
    write(tmp_path, old_runs.content(format))
    record = read_record(tmp_path)
    assert record.format == format
    assert record.songs["valid"] == [("Built-in - valid 01", 1_323_000)]
    assert (record.config.input_transform, record.config.data.remix) == ("log1p", 0.5)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == RunRecord(record.config, record.songs, FORMAT)


def test_a_model_that_was_given_away_names_no_songs(tmp_path):
    write(tmp_path, {"format": FORMAT, "config": to_fields(Config())})
    assert read_record(tmp_path) == RunRecord(Config(), {})


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"damaged \(Expecting property name"),
        ("\ufeff{}", "damaged"),
        ("[" * 100_000, "damaged"),
        ([], r"damaged \(it holds no object\)$"),
        ({"format": FORMAT}, "not the config of a run$"),
        ({"config": {}, "format": 99}, r"written by a newer version \(format 99, this reads 5\)"),
        ({"config": {}, "format": "2"}, "written by a newer version"),
        ({"config": {}, "format": "x" * 100_000}, r"a newer version \(format 'x{90,100}\.\.\.x{90,100}', "),
        ({"config": 3, "format": FORMAT}, r"not the config of a run \(it holds no fields\)"),
        ({"config": FIELDS | {"epochs": "3"}, "format": FORMAT}, r"\(epochs must be a whole number, "),
        ({"config": FIELDS | {"epochs": 10**400}, "format": FORMAT}, r"\(epochs x patches_per_epoch must "),
        ({"config": FIELDS | {"epochs": nested(400)}, "format": FORMAT}, "not the config of a run"),
        ({"config": FIELDS, "format": FORMAT, "songs": 3}, "not the config of a run"),
        ({"config": FIELDS, "format": FORMAT, "songs": {"train": ["A"]}}, "not the config of a run"),
        ({"config": FIELDS, "format": FORMAT, "songs": {"train": [["A", "?"]]}}, "not the config of a run"),
        (
            {"config": FIELDS, "format": FORMAT, "songs": {"train": [["A", 1e999]]}},
            "not the config of a run",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line_that_names_the_file(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(RunError, match=message) as error:
        read_record(tmp_path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{config_path(tmp_path)}: ")


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(RunError, match=r"config\.json: No such file or directory"):
        read_record(tmp_path)
