"""The reference recipe, number for number.

Command:   python -m vocalsep_jax.main --config configs/base.py --config.data.root=FOLDER
Duration:  100 epochs of 1,625 steps. On two CPU cores a step takes about 1 s, an epoch half an hour: this
           is a config for accelerators. Any run can be stopped and goes on with the same command.
Expect:    the published run of this recipe did not generalise: training MSE fell from 0.583 to 0.371
           while validation MSE stayed near 0.58 from epoch 29 on. It stands here as the baseline that other
           configs are measured against, not as the way to a good separator.

Without a data root it trains on the built-in generated songs, and says so.

Every field there is, with its meaning and what it may be, is in `vocalsep_jax/config.py`. Its defaults
are this recipe; the numbers that make it are repeated below, so that they stay what they are.
"""

import ml_collections

from vocalsep_jax.config import Config, to_fields


def get_config() -> ml_collections.ConfigDict:
    """All fields there are, with the reference values; other configs change them by name."""
    config = ml_collections.ConfigDict(to_fields(Config()))
    config.name = "base"

    config.audio.sample_rate = 44_100
    config.audio.n_fft = 510  # window length too: 256 bins, DC to Nyquist
    config.audio.hop = 172
    config.audio.patch_frames = 256  # 0.995 s
    config.data.channels = "mono"
    config.input_transform = "raw"

    config.model.width = 64
    config.model.depth = 7

    config.batch_size = 8
    config.patches_per_epoch = 13_000
    config.epochs = 100
    config.loss = "mse"
    config.optimizer.learning_rate = 1e-5  # AdamW
    config.optimizer.weight_decay = 1e-6
    return config
