"""Transfer experiment: from random weights, on the recipe's raw magnitudes.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/scratch.py
               --config.data.root=FOLDER
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """The baseline of `transferred_raw`."""
    config = transfer.raw()
    config.name = "scratch"
    return config
