"""The recipe on a TPU pod slice or several GPUs: large bfloat16 batches, almost as many patches an epoch.

Command:   scripts/tpu_pod.sh train NAME ZONE --config configs/tpu_pod.py --workdir SHARED ...
Duration:  not measured; an epoch is 12 steps at batch 1,024.
Expect:    what `base` gives, sooner. batch_size must be a multiple of the number of devices.

Changes to the recipe: the global batch; a learning rate scaled by the square root of the batch's growth,
which keeps Adam's noise scale (Malladi et al. 2022), warmed up; activations in bfloat16; validation and
checkpoints by the minute. Overriding the batch size rescales the learning rate.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """`base` with a global batch of 1,024."""
    config = base.get_config()
    config.name = "tpu_pod"
    recipe_batch, recipe_rate = config.batch_size, config.optimizer.learning_rate
    config.batch_size = 1024
    growth = config.get_ref("batch_size").to_float() / float(recipe_batch)
    config.optimizer.learning_rate = growth**0.5 * recipe_rate
    config.optimizer.warmup_steps = 60
    config.model.dtype = "bfloat16"
    config.valid.patches = 2048
    config.valid.every_epochs = 5
    config.checkpoint.every_steps = 0
    config.checkpoint.every_minutes = 5.0
    return config
