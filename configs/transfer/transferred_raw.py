"""Transfer experiment: a trained encoder on the recipe's raw magnitudes, as in the published run.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/transferred_raw.py
               --config.data.root=FOLDER
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """`scratch` with the encoder, in a domain it was not trained in."""
    config = transfer.raw()
    config.name = "transferred_raw"
    config.init_encoder = transfer.ENCODER
    return config
