import copy
import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import old_runs
from vocalsep_jax.config import (
    FORMAT,
    Config,
    ConfigError,
    DataOptions,
    OptimizerOptions,
    differences,
    parse,
    parse_run,
    to_fields,
)
from vocalsep_jax.measures.losses import LOSSES
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.runtime.options import is_section, rule_of

WRITTEN = json.loads(json.dumps(to_fields(Config())))
"""A config as `config.json` holds it."""


def nested(path, value):
    """`{"a": {"b": value}}` of the path `a.b`."""
    *sections, name = path.split(".")
    fields = {name: value}
    for section in reversed(sections):
        fields = {section: fields}
    return fields


def at(fields, path):
    for name in path.split("."):
        fields = fields[name]
    return fields


def options(section=Config, prefix=""):
    """All fields there are, by their path, sections left out."""
    found = {}
    for field in dataclasses.fields(section):
        if is_section(field):
            found |= options(field.default_factory, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field
    return found


OPTIONS = options()


def refused(fields, read=parse):
    """The one line that says why fields are not taken."""
    with pytest.raises(ConfigError) as error:
        read(fields)
    (line,) = str(error.value).splitlines()
    return line


def test_the_defaults_are_the_reference_recipe_number_for_number():
    assert to_fields(Config()) == {
        "name": "base",
        "seed": 0,
        "audio": {"sample_rate": 44_100, "n_fft": 510, "hop": 172, "patch_frames": 256},
        "data": {
            "channels": "mono", "voiced_share": 0, "gain_db": 0, "level_db": 0, "swap_channels": 0,
            "invert": 0, "balance_db": 0, "width": 1, "voice_absent": 0, "accompaniment_absent": 0,
            "equalizer_db": 0, "remix": 0,
            "root": "", "instrumentals": "", "speeds": (), "cache": "", "valid_songs": 0, "valid_names": (),
            "placement": "auto", "stft_on": "host",
            "builtin": {"train_songs": 24, "valid_songs": 2, "beside": 0, "seconds": 60},
        },
        "model": {"network": "unet", "width": 64, "depth": 7, "mixing": 0, "dtype": "float32"},
        "input_transform": "raw",
        "frequency_scale": "linear",
        "frequency_bins": 256,
        "input_norm": False,
        "batch_size": 8,
        "patches_per_epoch": 13_000,
        "epochs": 100,
        "loss": "mse",
        "target": "vocals", "objective": "mean", "log_floor": 0.02,
        "optimizer": {
            "kind": "adamw", "learning_rate": 1e-5, "weight_decay": 1e-6, "schedule": "constant",
            "warmup_steps": 0, "clip_norm": 0,
        },
        "valid": {"patches": 512, "every_epochs": 1, "best_by": "loss", "song_overlap": 0.25},
        "init_from": "",
        "init_encoder": "",
        "freeze_encoder": "none",
        "unfreeze_epoch": 0,
        "encoder_lr_scale": 1,
        "rematerialise": False,
        "parallel": "pmap",
        "log_every_steps": 10,
        "steps_per_dispatch": 0,
        "checkpoint": {"every_steps": 500, "every_minutes": 3},
        "max_minutes": 0,
    }  # fmt: skip


def test_what_follows_from_the_recipe():
    config = Config()
    assert config.patch == config.network_input == (256, 256)
    assert config.channels == config.network().channels == 1
    assert config.stft.samples(config.audio.patch_frames) == 44_370
    assert config.steps_per_epoch == 1625
    assert config.last_step == 162_500


def test_a_network_of_stereo_samples_has_two_channels():
    config = parse({"data": {"channels": "stereo"}})
    assert config.channels == config.network().channels == 2
    assert (config.patch, config.network_input) == ((256, 256), (256, 256, 2))
    for channels in ("left", "right", "random"):
        assert parse({"data": {"channels": channels}}).network_input == (256, 256)


def test_fields_that_are_absent_have_their_default():
    assert parse({}) == Config()
    assert parse({"data": {"gain_db": 6.0}}) == Config(data=DataOptions(gain_db=6.0))


def test_every_way_to_give_fields_arrives_at_the_same_config():
    collections = pytest.importorskip("ml_collections", reason="needs the train extra")
    changes = {"epochs": 3, "data": {"valid_names": ("A", "B"), "remix": 0.5, "builtin": {"seconds": 4.0}}}
    config = parse(changes)
    given = collections.ConfigDict(to_fields(Config()))
    given.update(changes)
    assert (config.epochs, config.data.builtin.seconds) == (3, 4.0)
    assert parse(config) is config
    for other in (given, to_fields(config), json.loads(json.dumps(to_fields(config)))):
        assert parse(other) == config
    assert parse_run(json.loads(json.dumps(to_fields(config))), FORMAT) == config


def test_what_was_parsed_is_as_it_was():
    fields = copy.deepcopy(old_runs.FORMAT_3["config"])
    parse_run(fields, 3)
    assert fields == old_runs.FORMAT_3["config"]


def test_whole_numbers_are_taken_for_others_and_lists_for_tuples():
    config = parse({"max_minutes": 5, "data": {"valid_names": ["A"], "speeds": [1, 1.25]}})
    assert type(config.max_minutes) is float
    assert config.data.valid_names == ("A",)
    assert config.data.speeds == (1.0, 1.25)
    assert type(config.data.speeds[0]) is float


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        # types
        ("batch_size", "8", "batch_size must be a whole number, at least 1, not '8'"),
        ("batch_size", 8.0, "batch_size must be a whole number, at least 1, not 8.0"),
        ("batch_size", True, "batch_size must be a whole number, at least 1, not True"),
        ("epochs", None, "epochs must be a whole number, at least 1, not None"),
        ("max_minutes", "5", "max_minutes must be a number, at least 0, not '5'"),
        ("max_minutes", True, "max_minutes must be a number, at least 0, not True"),
        ("rematerialise", 1, "rematerialise must be True or False, not 1"),
        ("data.root", 3, "data.root must be text, not 3"),
        ("data.valid_names", "A", "data.valid_names must be names, as ('A', 'B'), not 'A'"),
        ("data.valid_names", [1], "data.valid_names must be names, as ('A', 'B'), not [1]"),
        ("data.valid_names", ("A", 1), "data.valid_names must be names, as ('A', 'B'), not ('A', 1)"),
        ("data.speeds", 1.1, "data.speeds must be numbers, as (0.9, 1.1), from 0.5 to 2, not 1.1"),
        ("data.speeds", ["1.1"], "data.speeds must be numbers, as (0.9, 1.1), from 0.5 to 2, not ['1.1']"),
        ("data.instrumentals", ("A",), "data.instrumentals must be text, not ('A',)"),
        ("input_norm", 1, "input_norm must be True or False, not 1"),
        ("loss", ["mse"], "loss must be one of mse, l1, not ['mse']"),
        # choices
        ("data.channels", "both",
         "data.channels must be one of mono, left, right, random, stereo, not 'both'"),
        ("data.placement", "moon", "data.placement must be one of host, resident, auto, not 'moon'"),
        ("data.stft_on", "moon", "data.stft_on must be one of host, device, not 'moon'"),
        ("model.network", "rnn", "model.network must be one of unet, not 'rnn'"),
        ("model.dtype", "float16", "model.dtype must be one of float32, bfloat16, not 'float16'"),
        ("input_transform", "cubed", "input_transform must be one of raw, log, log1p, not 'cubed'"),
        ("frequency_scale", "mel",
         "frequency_scale must be one of linear, coseparation, zoned, not 'mel'"),
        ("target", "mixture", "target must be one of vocals, in_phase, not 'mixture'"),
        ("valid.best_by", "ear", "valid.best_by must be one of loss, sdr, last, not 'ear'"),
        ("loss", "l3", "loss must be one of mse, l1, not 'l3'"),
        ("optimizer.schedule", "step", "optimizer.schedule must be one of constant, cosine, not 'step'"),
        ("freeze_encoder", "all",
         "freeze_encoder must be one of none, weights, weights_and_statistics, not 'all'"),
        ("parallel", "xmap", "parallel must be one of pmap, shard_map, not 'xmap'"),
        # ranges
        ("seed", 2**32, "seed must be a whole number, at least 0 and below 4294967296, not 4294967296"),
        ("seed", -1, "seed must be a whole number, at least 0 and below 4294967296, not -1"),
        ("batch_size", 0, "batch_size must be a whole number, at least 1, not 0"),
        ("audio.sample_rate", 2**31,
         "audio.sample_rate must be a whole number, from 1 to 1000000, not 2147483648"),
        ("audio.n_fft", 2**40, "audio.n_fft must be a whole number, from 2 to 131072, not 1099511627776"),
        ("audio.patch_frames", 2**17,
         "audio.patch_frames must be a whole number, from 1 to 65536, not 131072"),
        ("frequency_bins", 1, "frequency_bins must be a whole number, from 2 to 65536, not 1"),
        ("model.width", 0, "model.width must be a whole number, from 1 to 4096, not 0"),
        ("data.gain_db", -3.0, "data.gain_db must be a number, at least 0, not -3.0"),
        ("data.voiced_share", 2, "data.voiced_share must be a number, from 0 to 1, not 2"),
        ("data.remix", -0.1, "data.remix must be a number, from 0 to 1, not -0.1"),
        ("data.speeds", [0.9, 2.5],
         "data.speeds must be numbers, as (0.9, 1.1), from 0.5 to 2, not [0.9, 2.5]"),
        ("data.width", 0.5, "data.width must be a number, at least 1, not 0.5"),
        ("data.equalizer_db", -1, "data.equalizer_db must be a number, at least 0, not -1"),
        ("data.voice_absent", 1.5, "data.voice_absent must be a number, from 0 to 1, not 1.5"),
        ("data.builtin.seconds", 0.5, "data.builtin.seconds must be a number, at least 1, not 0.5"),
        ("valid.song_overlap", 1.0, "valid.song_overlap must be a number, at least 0 and below 1, not 1.0"),
        ("unfreeze_epoch", -1, "unfreeze_epoch must be a whole number, at least 0, not -1"),
        ("encoder_lr_scale", 0, "encoder_lr_scale must be a number, above 0, not 0"),
        # no numbers
        ("optimizer.clip_norm", math.nan, "optimizer.clip_norm must be a number, at least 0, not nan"),
        ("optimizer.clip_norm", math.inf, "optimizer.clip_norm must be a number, at least 0, not inf"),
        ("data.remix", math.nan, "data.remix must be a number, from 0 to 1, not nan"),
        ("encoder_lr_scale", math.inf, "encoder_lr_scale must be a number, above 0, not inf"),
        # larger than any float
        ("data.speeds", [10**400],
         f"data.speeds must be numbers, as (0.9, 1.1), from 0.5 to 2, not [{10**400}]"),
        ("max_minutes", 10**400, f"max_minutes must be a number, at least 0, not {10**400}"),
        ("seed", 10**400,
         f"seed must be a whole number, at least 0 and below 4294967296, not {10**400}"),
        # sections
        ("audio", 3, "audio must be a section of fields, not 3"),
        ("data.builtin", [1], "data.builtin must be a section of fields, not [1]"),
    ],
)  # fmt: skip
def test_one_line_names_the_field_what_is_allowed_and_the_value(field, value, message):
    assert refused(nested(field, value)) == message


def test_an_entry_that_is_added_to_a_registry_can_be_chosen(monkeypatch):
    monkeypatch.setitem(LOSSES, "l3", LOSSES["l1"])
    assert parse({"loss": "l3"}).loss == "l3"
    assert refused({"loss": "l4"}) == "loss must be one of mse, l1, l3, not 'l4'"


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


LONG = {"text": "x" * 100_000, "list": [0] * 100_000, "deep": deep(100_000), "object": {"a": deep(10_000)}}


@pytest.mark.parametrize("value", LONG.values(), ids=LONG)
@pytest.mark.parametrize("name", ["loss", "batch_size", "data", "unknown"])
def test_a_message_stays_short_whatever_the_value(name, value):
    with pytest.raises(ConfigError, match=name) as error:
        parse({name: value})
    assert len(str(error.value)) < 3000


def test_a_message_stays_short_whatever_the_name():
    with pytest.raises(ConfigError, match="no field xxx") as error:
        parse({"x" * 100_000: 1})
    assert len(str(error.value)) < 3000


def test_what_is_no_section_is_no_config():
    assert refused(None) == "a config must be a section of fields, not None"
    assert refused([]) == "a config must be a section of fields, not []"


@pytest.mark.parametrize(
    ("field", "there_are"),
    [
        ("bath_size", "name, seed, audio, "),
        ("audio.rate", "sample_rate, n_fft, hop, patch_frames"),
        ("data.builtin.songs", "train_songs, valid_songs, beside, seconds"),
        ("data.repair", "channels, voiced_share, "),  # of earlier formats, not of a config file
        ("model.input_transform", "network, width, depth, mixing, dtype"),
    ],
)
def test_a_field_that_there_is_not_is_named_with_those_there_are(field, there_are):
    assert refused(nested(field, 0)).startswith(f"the config has no field {field}; there are {there_are}")


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"batch_size": 8, "patches_per_epoch": 4},
         ["patches_per_epoch must be at least one batch, batch_size 8, not 4"]),
        ({"epochs": 2**20, "patches_per_epoch": 2**12},
         ["epochs x patches_per_epoch must be below 2^32, not 4294967296"]),
        ({"init_from": "a", "init_encoder": "b"}, ["init_from and init_encoder", "not both"]),
        ({"unfreeze_epoch": 2}, ["unfreeze_epoch is 2, but freeze_encoder is none"]),
        ({"unfreeze_epoch": 3, "epochs": 3, "freeze_encoder": "weights"},
         ["unfreeze_epoch 3 is never reached in 3 epochs"]),
        ({"audio": {"hop": 256}}, ["audio.hop must be at most audio.n_fft / 2 = 255, not 256"]),
        ({"audio": {"n_fft": 1022, "hop": 1}}, ["audio.hop must be at least audio.n_fft / 512, not 1"]),
        ({"audio": {"n_fft": 65_534, "patch_frames": 256}},
         ["audio.n_fft and audio.patch_frames", "8388608 values; at most 4194304"]),
        ({"audio": {"patch_frames": 40}},
         ["multiples of 128", "256 bins x 40 frames", "audio.n_fft", "audio.patch_frames", "model.depth"]),
        ({"audio": {"n_fft": 512}}, ["multiples of 128", "257 bins x 256 frames", "audio.n_fft"]),
        ({"frequency_scale": "coseparation", "frequency_bins": 200},
         ["multiples of 128", "200 bins x 256 frames", "frequency_bins"]),
        ({"frequency_scale": "zoned", "frequency_bins": 200},
         ["multiples of 128", "200 bins x 256 frames", "frequency_bins"]),
        ({"frequency_scale": "zoned", "frequency_bins": 512, "audio": {"n_fft": 800}},
         ["an even number less of 401 bins", "not 512", "audio.n_fft", "frequency_bins"]),
        ({"data": {"voice_absent": 0.75, "accompaniment_absent": 0.5}},
         ["data.voice_absent + data.accompaniment_absent must be at most 1, not 1.25"]),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_are_named(fields, parts):
    line = refused(fields)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 8, "patches_per_epoch": 8},
        {"epochs": 2**20, "patches_per_epoch": 2**12 - 1},
        {"unfreeze_epoch": 2, "epochs": 3, "freeze_encoder": "weights"},
        {"audio": {"hop": 255}},
        {"seed": 2**32 - 1},
        # The layers work on the scale's bins: what the STFT has may be any number.
        {"frequency_scale": "coseparation", "audio": {"n_fft": 1022, "hop": 256}},
        {"frequency_scale": "zoned", "audio": {"n_fft": 1022, "hop": 256}},
        {"frequency_scale": "zoned", "frequency_bins": 128},
        {"frequency_scale": "zoned"},
        {"data": {"voice_absent": 0.75, "accompaniment_absent": 0.25, "channels": "stereo"}},
        {"data": {"speeds": [0.5, 2]}},
    ],
)
def test_what_is_just_allowed(fields):
    config = parse(fields)
    assert parse(to_fields(config)) == config


def test_a_config_that_is_built_or_changed_is_checked_too():
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate must be a number, at least 0, not -1"):
        Config(optimizer=OptimizerOptions(learning_rate=-1.0))
    with pytest.raises(ConfigError, match=r"data\.channels must be one of mono"):
        Config(data=DataOptions(channels="both"))
    with pytest.raises(ConfigError, match="epochs must be a whole number"):
        dataclasses.replace(Config(), epochs=0)
    with pytest.raises(ConfigError, match="nothing is frozen"):
        dataclasses.replace(Config(), unfreeze_epoch=1)


def test_the_network_is_that_of_the_config():
    config = parse({
        "model": {"width": 4, "depth": 5, "mixing": 8, "dtype": "bfloat16"},
        "input_transform": "log",
        "frequency_scale": "coseparation",
        "frequency_bins": 64,
        "input_norm": True,
        "data": {"channels": "stereo"},
    })  # fmt: skip
    network = config.network("data", freeze_statistics=True)
    assert network == UNet(4, 5, 2, 8, "bfloat16", "log", "coseparation", 64, True, True, "data")
    assert config.network() == network.clone(freeze_statistics=False, axis_name=None)


class TestOfARun:
    """The config in `config.json`, as this and earlier versions wrote it."""

    @pytest.mark.parametrize("format", old_runs.FORMATS)
    def test_of_an_earlier_format_is_todays(self, format):
        config = parse_run(old_runs.content(format)["config"], format)
        assert (config.name, config.epochs, config.optimizer.schedule) == ("quickstart", 2, "cosine")
        assert (config.input_transform, config.frequency_scale) == ("log1p", "linear")
        assert (config.model.network, config.model.width) == ("unet", 8)
        assert config.data.remix == 0.5
        assert (config.data.placement, config.rematerialise) == ("auto", False)
        assert (config.freeze_encoder, config.encoder_lr_scale) == ("none", 1.0)
        assert (config.target, config.valid.best_by, config.input_norm) == ("vocals", "loss", False)
        assert (config.channels, config.data.width, config.data.equalizer_db) == (1, 1.0, 0.0)
        assert (config.data.instrumentals, config.data.speeds) == ("", ())

    def test_the_formats_differ_in_how_they_say_the_same(self):
        first, *others = (parse_run(old_runs.content(n)["config"], n) for n in old_runs.FORMATS)
        assert others == [first] * 3

    def test_of_the_format_before_todays_lacks_only_what_is_new(self):
        assert parse_run(old_runs.content(4)["config"], FORMAT) == parse(old_runs.content(4)["config"])

    def test_names_of_earlier_formats_are_none_of_this_one(self):
        line = refused(old_runs.FORMAT_3["config"], lambda fields: parse_run(fields, FORMAT))
        assert line.startswith("the config has no field data.repair")
        first = old_runs.content(1)["config"]
        assert "no field model.input_transform" in refused(first, lambda fields: parse_run(fields, 2))

    @pytest.mark.parametrize(
        "name", ["audio.sample_rate", "audio.hop", "audio.patch_frames", "model.width", "model.dtype"]
    )
    def test_without_a_field_that_decides_what_the_network_sees_is_refused(self, name):
        fields = copy.deepcopy(WRITTEN)
        section, field = name.split(".")
        del fields[section][field]
        assert self.refused(fields) == f"it has no field {name}"

    def test_without_other_fields_has_their_defaults(self):
        config = parse_run(
            {"audio": WRITTEN["audio"], "model": {"width": 8, "depth": 7, "dtype": "float32"}}, 3
        )
        assert config == parse({"model": {"width": 8}})

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (None, "it holds no fields"),
            ([], "it holds no fields"),
            ({}, "it has no section audio"),
            ({"audio": WRITTEN["audio"]}, "it has no section model"),
            ({"audio": WRITTEN["audio"], "model": 3}, "it has no section model"),
            (WRITTEN | {"data": 3}, "data must be a section of fields, not 3"),
            (WRITTEN | {"epochs": "2"}, "epochs must be a whole number, at least 1, not '2'"),
        ],
    )
    @pytest.mark.parametrize("format", [1, FORMAT])
    def test_what_is_none_is_refused(self, fields, message, format):
        assert refused(fields, lambda fields: parse_run(fields, format)) == message

    def refused(self, fields):
        return refused(fields, lambda fields: parse_run(fields, FORMAT))


MAY_CHANGE = {
    "name": "other",
    "parallel": "shard_map",
    "log_every_steps": 7,
    "max_minutes": 9.0,
    "init_from": "run",
    "init_encoder": "encoder",
    "data.root": "songs",
    "data.instrumentals": "music",
    "data.cache": "cache",
    "data.placement": "host",
    "data.stft_on": "device",
    "steps_per_dispatch": 3,
    "rematerialise": True,
    "checkpoint.every_steps": 0,
    "checkpoint.every_minutes": 0.0,
}


class TestDifferences:
    """Between a run that is there and a config that it is to be resumed with."""

    @pytest.mark.parametrize("name", MAY_CHANGE)
    def test_leave_out_what_does_not_change_what_is_computed(self, name):
        assert differences(Config(), parse(nested(name, MAY_CHANGE[name]))) == []

    def test_leave_out_nothing_else(self):
        assert {name for name, field in OPTIONS.items() if rule_of(field).may_change} == set(MAY_CHANGE)

    def test_name_the_fields_with_both_values_in_order(self):
        old = parse({"data": {"valid_names": ["Q"], "root": "a"}})
        new = parse({"batch_size": 16, "data": {"valid_names": [], "root": "b"}, "valid": {"patches": 64}})
        assert differences(old, new) == [
            "batch_size: 8 -> 16",
            "data.valid_names: ['Q'] -> []",
            "valid.patches: 512 -> 64",
        ]
        assert differences(old, old) == []


BOUNDS = {
    "audio.hop": (1, 255),
    "batch_size": (1, 10**3),
    "epochs": (5, 10**4),
    "model.depth": (4, 7),
    "model.mixing": (0, 16),
    "patches_per_epoch": (10**3, 10**5),
    "unfreeze_epoch": (0, 4),
}
"""Within which whole numbers contradict no other field."""

SHARES = {"data.voice_absent", "data.accompaniment_absent"}
"""Fields that must not come to more than 1 together."""

FIXED = {"audio.n_fft", "audio.patch_frames", "frequency_bins", "init_encoder"}
"""Fields that others have to suit."""


def values(name, field):
    """Values that a field may have."""
    rule, kind = rule_of(field), type(field.default)
    if name in SHARES:
        return st.floats(0, 0.5)
    if rule.choices is not None:
        return st.sampled_from(sorted(rule.choices))
    if kind is int:
        return st.integers(*BOUNDS.get(name, (int(rule.least), int(min(rule.most, 10**9)))))
    if kind is float:
        numbers = st.floats(max(rule.least, rule.above), min(rule.most, rule.below), allow_infinity=False)
        return numbers.filter(rule.allows)
    if rule.items is float:
        return st.lists(st.floats(rule.least, rule.most), max_size=3)
    return {bool: st.booleans(), str: st.text(), tuple: st.lists(st.text(), max_size=3)}[kind]


@st.composite
def valid_fields(draw):
    """Some fields, by path, with values that they may have."""
    names = draw(st.sets(st.sampled_from(sorted(OPTIONS.keys() - FIXED)), max_size=12))
    fields = {name: draw(values(name, OPTIONS[name])) for name in sorted(names)}
    if fields.get("unfreeze_epoch"):
        fields["freeze_encoder"] = "weights"
    return fields


def merged(flat):
    """Nested dictionaries from fields by path."""
    fields = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        within = fields
        for section in sections:
            within = within.setdefault(section, {})
        within[name] = value
    return fields


@settings(deadline=None, max_examples=100)
@given(valid_fields())
def test_any_config_survives_json(flat):
    config = parse(merged(flat))
    for name, value in flat.items():
        kind = type(OPTIONS[name].default)
        kept = at(to_fields(config), name)
        assert (type(kept), kept) == (kind, kind(value))
    written = json.dumps(to_fields(config), allow_nan=False)
    assert parse_run(json.loads(written), FORMAT) == config
    assert hash(config) == hash(parse(json.loads(written)))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(OPTIONS)), ANYTHING)
def test_any_value_is_kept_or_refused_in_a_line_that_names_the_field(name, value):
    kind = type(OPTIONS[name].default)
    try:
        kept = at(to_fields(parse(nested(name, value))), name)
    except ConfigError as error:
        (line,) = str(error).splitlines()
        assert name in line
    else:
        assert (type(kept), kept) == (kind, kind(value))


@settings(deadline=None, max_examples=50)
@given(ANYTHING, st.sampled_from([0, *old_runs.FORMATS, FORMAT]))
def test_anything_in_the_place_of_a_runs_config_is_refused(fields, format):
    with pytest.raises(ConfigError):
        parse_run(fields, format)
