"""Transfer experiment: a trained encoder with its own front end.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/transferred_log.py
               --config.data.root=FOLDER
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """`scratch_log` with the encoder."""
    config = transfer.own()
    config.name = "transferred_log"
    config.init_encoder = transfer.ENCODER
    return config
