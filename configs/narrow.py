"""A narrow network for a handful of real songs, in minutes on two CPU cores.

Command:   python -m vocalsep_jax.main --config configs/narrow.py --config.data.root=FOLDER
Duration:  6 min 20 s on two CPU cores.
Expect:    with three training songs, a voice that scores above the mixture and above silence (0 dB uSDR) on
           a song it has not seen; docs/evaluation.md has the numbers. More songs help more than more steps.

Changes to the recipe: width 16; a learning rate that suits minutes of training, warmed up and decayed; a
logarithmic input; and the augmentation a few songs need: crops where the voice sounds, random levels,
channels, and pairings of voices with accompaniments.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """`base`, narrow, with augmentation across songs."""
    config = base.get_config()
    config.name = "narrow"
    suit_few_songs(config)
    config.model.width = 16
    config.input_transform = "log1p"
    config.patches_per_epoch = 3_200
    config.epochs = 5
    return config


def suit_few_songs(config: ml_collections.ConfigDict) -> None:
    """Augmentation, optimiser and validation for minutes of training on a handful of songs."""
    config.data.channels = "random"
    config.data.voiced_share = 0.7
    config.data.gain_db = 6.0
    config.data.swap_channels = 0.5
    config.data.remix = 0.5
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.valid.patches = 128
    config.log_every_steps = 20
