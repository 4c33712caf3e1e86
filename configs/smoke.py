"""A run of seconds that touches everything; for tests.

Command:   python -m vocalsep_jax.main --config configs/smoke.py --workdir /tmp/smoke
Duration:  under a minute on two CPU cores, most of it compiling.
Expect:    a run folder with all its files; the numbers mean nothing.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of `base`, as small as they go."""
    config = base.get_config()
    config.name = "smoke"
    config.audio.n_fft = 62  # 32 bins
    config.audio.hop = 21
    config.audio.sample_rate = 8_000
    config.audio.patch_frames = 32
    config.data.builtin.train_songs = 2
    config.data.builtin.valid_songs = 1
    config.data.builtin.seconds = 4.0
    config.data.voiced_share = 0.5
    config.data.gain_db = 3.0
    config.data.remix = 0.5
    config.model.width = 2
    config.model.depth = 5
    config.batch_size = 8
    config.patches_per_epoch = 32
    config.epochs = 2
    config.optimizer.learning_rate = 1e-3
    config.valid.patches = 12  # a short last batch
    config.log_every_steps = 2
    return config
