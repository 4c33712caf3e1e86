"""The full network on MUSDB18-HQ, for one GPU.

Command:   python -m vocalsep_jax.main --config configs/musdb.py --config.data.root=MUSDB18-HQ
           where MUSDB18-HQ is the folder with train/ and test/ in it.
Duration:  one to three hours, estimated, not measured: 5.12 million patches at 36 GFLOP each
           (docs/performance.md) are 184 PFLOP; a GPU that sustains 50 TFLOP/s in bfloat16, a sixth of what
           an A100 states and a twentieth of what an H100 states, takes 1.0 hours for them, and validation,
           the first compilation and reading the songs come on top. On two CPU cores it would take weeks.
Expect:    not measured: nobody has run it yet. The songs take 8.5 GB of the GPU's memory as 16-bit
           integers; with less than 24 GB, halve the batch, or set --config.rematerialise=True.

Changes to the recipe: augmentation, optimiser and logarithmic input of `narrow`; batches of 64 in bfloat16;
200 epochs of about as many patches as the songs have seconds. MUSDB18's published validation songs are
validated on; its test songs are not touched.
"""

import ml_collections

from configs import base, narrow


def get_config() -> ml_collections.ConfigDict:
    """`base` with what a hundred songs and one GPU allow."""
    config = base.get_config()
    config.name = "musdb"
    narrow.suit_few_songs(config)
    config.input_transform = "log1p"
    config.model.dtype = "bfloat16"
    config.batch_size = 64
    config.patches_per_epoch = 25_600
    config.epochs = 200
    config.optimizer.warmup_steps = 1_000
    config.valid.patches = 2_048
    config.valid.every_epochs = 5
    config.log_every_steps = 100
    return config
