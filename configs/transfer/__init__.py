"""Configs of the transfer experiment: what a trained encoder brings. See docs/transfer.md."""

import ml_collections

from configs import base, coseparation, narrow

ENCODER = "runs/transfer/encoder"
"""Where scripts/transfer.sh puts the encoder that the transferred configs start from."""


def shorten(config: ml_collections.ConfigDict) -> None:
    """Make a config one of minutes on two CPU cores; the same for all configs of the experiment.

    Width 8; optimiser and augmentation of `narrow`.
    """
    narrow.suit_few_songs(config)
    config.model.width = 8
    config.patches_per_epoch = 800
    config.epochs = 6
    config.valid.song_overlap = 0.0


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
