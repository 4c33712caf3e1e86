"""A narrow network that learns to separate the built-in songs in minutes on a laptop.

Command:   scripts/quickstart.sh, or python -m vocalsep_jax.main --config configs/quickstart.py
Duration:  two minutes on two CPU cores, songs included; twice that on slow ones.
Expect:    see the README for what it reaches on a held-out built-in song.

Changes to the recipe: width 8, a learning rate that suits minutes of training, a logarithmic input, crops
where the voice sounds, random pairing of voices and accompaniments.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """`base`, narrow and quick."""
    config = base.get_config()
    config.name = "quickstart"
    config.data.builtin.train_songs = 12
    config.data.builtin.valid_songs = 1
    config.data.builtin.seconds = 30.0
    config.data.voiced_share = 0.5
    config.data.gain_db = 3.0
    config.data.remix = 0.5
    config.model.width = 8
    config.input_transform = "log1p"
    config.patches_per_epoch = 1_280
    config.epochs = 2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.valid.patches = 64
    config.log_every_steps = 20
    return config
