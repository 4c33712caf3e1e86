"""Configs of the transfer experiment: what a trained encoder brings. See docs/transfer.md."""

import ml_collections

from configs import base, coseparation

ENCODER = "runs/transfer/encoder"
"""Where scripts/transfer.sh puts the encoder that the transferred configs start from."""


def shorten(config: ml_collections.ConfigDict) -> None:
    """Make a config one of minutes on two CPU cores; the same for all configs of the experiment.

    Width 8; a learning rate that suits hundreds of steps, warmed up and decayed; and the augmentation that
    a handful of songs needs.
    """
    config.data.channels = "random"
    config.data.voiced_share = 0.7
    config.data.gain_db = 6.0
    config.data.swap_channels = 0.5
    config.data.repair = 0.5
    config.model.width = 8
    config.patches_per_epoch = 800
    config.epochs = 6
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.valid.patches = 128
    config.valid.song_overlap = 0.0
    config.log_every_steps = 20


def raw() -> ml_collections.ConfigDict:
    """Short, with the recipe's front end: raw magnitudes at 44.1 kHz, linear frequency."""
    config = base.get_config()
    shorten(config)
    return config


def own() -> ml_collections.ConfigDict:
    """Short, with the encoder's own front end: log magnitudes at 11,025 Hz, logarithmic frequency."""
    config = coseparation.get_config()
    shorten(config)
    return config
