"""Transfer experiment: the network whose encoder is transferred, trained on the built-in songs.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/pretrain.py
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """Short, on other songs than the experiment's, with the encoder's own front end."""
    config = transfer.own()
    config.name = "pretrain"
    config.data.builtin.train_songs = 12
    config.data.builtin.valid_songs = 1
    return config
