"""The quickstart in bfloat16, to see what that does to learning.

Command:   python tools/run_experiment.py configs/quickstart.py configs/quickstart_bfloat16.py
               --out runs/precision
Duration:  a few minutes a run on two CPU cores, which compute in float32 and round.
Expect:    the curves of `quickstart`: docs/performance.md shows both.

Change to `quickstart`: activations in bfloat16; parameters, statistics, STFT, mask product and loss stay
float32.
"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    """`quickstart` with bfloat16 activations."""
    config = quickstart.get_config()
    config.name = "quickstart_bfloat16"
    config.model.dtype = "bfloat16"
    return config
