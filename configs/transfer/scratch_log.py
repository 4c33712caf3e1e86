"""Transfer experiment: from random weights, with the encoder's own front end.

Command:   scripts/transfer.sh FOLDER, or alone
           python -m vocalsep_jax.main --config configs/transfer/scratch_log.py
               --config.data.root=FOLDER
Duration:  about three minutes on two CPU cores.
Expect:    docs/transfer.md.
"""

import ml_collections

from configs import transfer


def get_config() -> ml_collections.ConfigDict:
    """The baseline of `transferred_log` and `frozen`: what the front end brings by itself."""
    config = transfer.own()
    config.name = "scratch_log"
    return config
