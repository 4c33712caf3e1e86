"""The recipe of the model that ships: stereo, fine frequencies, few songs made many.

Command:   python -m vocalsep_jax.main --config configs/ship.py --config.data.root=FOLDER \
               --config.data.instrumentals=MUSIC_WITHOUT_VOICE
Duration:  on two CPU cores about 25 patches a second: 16 minutes for 24,000 of them.
Expect:    docs/recipe.md tells what each change brought, by songs that were left out of training.

Changes to the recipe: windows of 46 ms, which tell a voice's harmonics apart, and bins above 5.5 kHz taken
together by threes; left and right seen, and masked, together, by width 16; the target is the part of the
voice in phase with the mixture, which is what counts in the separated waveform; all patches count alike
by the logarithm of their loss, so that faint voices are learned too; Muon; generated songs beside the real
ones; and samples that are hardly ever the same: voices with any accompaniment, accompaniments alone,
other speeds, equalisers, levels, widths.
"""

import ml_collections

from configs import narrow


def get_config() -> ml_collections.ConfigDict:
    """`narrow`, in stereo, with fine frequencies and more augmentation."""
    config = narrow.get_config()
    config.name = "ship"
    config.audio.n_fft = 2046  # 1024 bins
    config.audio.hop = 512
    config.audio.patch_frames = 128  # 1.5 s
    config.frequency_scale = "zoned"
    config.frequency_bins = 512
    config.target = "in_phase"
    config.objective = "log"

    config.data.channels = "stereo"
    config.data.width = 6.0
    config.data.balance_db = 6.0
    config.data.level_db = 6.0
    config.data.equalizer_db = 3.0
    config.data.invert = 0.5
    config.data.remix = 0.6
    config.data.speeds = (0.87, 1.15)
    config.data.voice_absent = 0.1
    config.data.builtin.beside = 8

    config.optimizer.kind = "muon"
    config.optimizer.learning_rate = 3e-3
    config.patches_per_epoch = 8_000
    config.epochs = 3
    config.valid.patches = 64
    return config
