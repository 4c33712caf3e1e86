"""The recipe in the domain the co-separation encoder was trained in, with that encoder.

Command:   python -m vocalsep_jax.main --config configs/coseparation.py --config.data.root=FOLDER
               --config.init_encoder=ENCODER
           where ENCODER is what `python tools/convert_torch_encoder.py unet_latest.pth ENCODER` wrote;
           without it, the same from scratch.
Duration:  as `base`: the patches have as many bins and frames.
Expect:    not measured with the published weights, which their owners share by hand.

Changes to the recipe: 11,025 Hz; windows of 1,022 samples, hop 256, so that a patch is 6 s and has 512
bins, which the network sees on its logarithmic scale of 256; the natural logarithm of the magnitude. What
the voice has above 5.5 kHz stays in the accompaniment then.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """`base` with the front end of Gao & Grauman (2019)."""
    config = base.get_config()
    config.name = "coseparation"
    config.audio.sample_rate = 11_025
    config.audio.n_fft = 1022
    config.audio.hop = 256
    config.input_transform = "log"
    config.frequency_scale = "coseparation"
    return config
