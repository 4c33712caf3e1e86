"""What earlier versions wrote to a run's `config.json`; format 3 as a run of the quickstart left it."""

import copy

FORMAT_3 = {
    "format": 3,
    "config": {
        "audio": {"hop": 172, "n_fft": 510, "patch_frames": 256, "sample_rate": 44100},
        "batch_size": 8,
        "checkpoint": {"every_minutes": 3.0, "every_steps": 500},
        "data": {
            "builtin": {"seconds": 30.0, "train_songs": 12, "valid_songs": 1},
            "cache": "/home/someone/cache",
            "channels": "mono",
            "gain_db": 3.0,
            "placement": "auto",
            "repair": 0.5,
            "root": "",
            "stft_on": "host",
            "swap_channels": 0.0,
            "valid_names": [],
            "valid_songs": 0,
            "voiced_share": 0.5,
        },
        "encoder_lr_scale": 1.0,
        "epochs": 2,
        "freeze_encoder": "none",
        "frequency_bins": 256,
        "frequency_scale": "linear",
        "init_encoder": "",
        "init_from": "",
        "input_transform": "log1p",
        "log_every_steps": 20,
        "loss": "mse",
        "max_minutes": 0.0,
        "model": {"depth": 7, "dtype": "float32", "width": 8},
        "name": "quickstart",
        "optimizer": {
            "clip_norm": 0.0,
            "learning_rate": 0.002,
            "schedule": "cosine",
            "warmup_steps": 20,
            "weight_decay": 1e-06,
        },
        "parallel": "pmap",
        "patches_per_epoch": 1280,
        "rematerialise": False,
        "seed": 0,
        "steps_per_dispatch": 0,
        "unfreeze_epoch": 0,
        "valid": {"every_epochs": 1, "patches": 64, "song_overlap": 0.25},
    },
    "songs": {
        "train": [["Built-in - train 01", 1323000], ["Built-in - train 02", 1323000]],
        "valid": [["Built-in - valid 01", 1323000]],
    },
    "versions": {
        "vocalsep_jax": "0.1.0",
        "jax": "0.10.2",
        "flax": "0.12.8",
        "optax": "0.2.8",
        "orbax-checkpoint": "0.12.8",
        "numpy": "2.4.6",
    },
}


FORMATS = (1, 2, 3, 4)
"""The formats before today's."""


def content(format):
    """A `config.json` of one of `FORMATS`, all of the same config."""
    result = copy.deepcopy(FORMAT_3) | {"format": format}
    config = result["config"]
    if format > 3:
        config["data"]["remix"] = config["data"].pop("repair")
        config["model"]["network"] = "unet"
    if format < 3:
        for name in ("placement", "stft_on"):
            del config["data"][name]
        for name in ("steps_per_dispatch", "rematerialise"):
            del config[name]
    if format < 2:
        config["model"]["input_transform"] = config.pop("input_transform")
        for name in (
            "frequency_scale", "frequency_bins",
            "init_encoder", "freeze_encoder", "unfreeze_epoch", "encoder_lr_scale",
        ):  # fmt: skip
            del config[name]
    return result


def make_older(content, format):
    """Make a `config.json` of today's, of what formats 3 and 4 could say, one of them."""
    config = content["config"]
    for name in ("instrumentals", "speeds", "level_db", "invert", "balance_db", "width", "voice_absent",
                 "accompaniment_absent", "equalizer_db"):  # fmt: skip
        del config["data"][name]
    del config["valid"]["best_by"], config["target"], config["input_norm"]
    if format < 4:
        del config["model"]["network"]
        config["data"]["repair"] = config["data"].pop("remix")
    content["format"] = format
