"""Transfer experiment: a trained encoder with its own front end, kept as it is.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/frozen.py
               --config.data.root=FOLDER
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """`transferred_log` with weights and statistics of the encoder frozen."""
    config = transfer.own()
    config.name = "frozen"
    config.init_encoder = transfer.ENCODER
    config.freeze_encoder = "weights_and_statistics"
    return config
