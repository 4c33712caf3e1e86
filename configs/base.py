"""The reference recipe, number for number.

Command:   python -m vocalsep_jax.main --config configs/base.py --config.data.root=FOLDER
Duration:  100 epochs of 1,625 steps. On two CPU cores a step takes about 1 s, an epoch half an hour: this
           is a config for accelerators. Any run can be stopped and goes on with the same command.
Expect:    the published run of this recipe did not generalise: training MSE fell from 0.583 to 0.371
           while validation MSE stayed near 0.58 from epoch 29 on. It stands here as the baseline that other
           configs are measured against, not as the way to a good separator.

Without a data root it trains on the built-in generated songs, and says so.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """All fields there are, with the reference values; other configs change them by name."""
    config = config_dict.ConfigDict()
    config.name = "base"
    config.seed = 0

    config.audio = config_dict.ConfigDict()
    config.audio.sample_rate = 44_100
    config.audio.n_fft = 510  # window length too: 256 bins, DC to Nyquist
    config.audio.hop = 172
    config.audio.patch_frames = 256  # 0.995 s

    config.data = config_dict.ConfigDict()
    config.data.root = ""  # folder of songs; empty: the built-in ones
    config.data.cache = ""  # where prepared songs are kept; empty: ~/.cache/vocalsep_jax/songs
    config.data.valid_songs = 0  # validation songs to choose where none are given; 0: a tenth
    config.data.valid_names = ()  # or name them
    config.data.channels = "mono"  # mono (mean of left and right), left, right, random
    config.data.voiced_share = 0.0  # share of crops placed where the voice sounds
    config.data.gain_db = 0.0  # voice and accompaniment each scaled by up to ± this
    config.data.swap_channels = 0.0  # probability of exchanging left and right, per stem
    config.data.repair = 0.0  # probability of an accompaniment from elsewhere
    config.data.placement = "auto"  # of songs: resident (on the devices), host; auto: resident if they fit
    config.data.stft_on = "host"  # of songs placed on the host: host, device
    config.data.builtin = config_dict.ConfigDict()
    config.data.builtin.train_songs = 24
    config.data.builtin.valid_songs = 2
    config.data.builtin.seconds = 60.0

    config.model = config_dict.ConfigDict()
    config.model.width = 64
    config.model.depth = 7
    config.model.dtype = "float32"  # of activations: float32 or bfloat16
    config.input_transform = "raw"  # raw, log (natural, of magnitude + 1e-10), log1p (of 100 x magnitude)
    config.frequency_scale = "linear"  # linear, coseparation (the logarithmic scale of that network)
    config.frequency_bins = 256  # of a scale that is not linear

    config.batch_size = 8  # over all devices
    config.patches_per_epoch = 13_000
    config.epochs = 100
    config.loss = "mse"  # mse, l1

    config.optimizer = config_dict.ConfigDict()  # AdamW
    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 1e-6
    config.optimizer.schedule = "constant"  # constant, cosine (to 0 at the last step)
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0  # global norm gradients are clipped to; 0: not

    config.valid = config_dict.ConfigDict()
    config.valid.patches = 512
    config.valid.every_epochs = 1
    config.valid.song_overlap = 0.25  # of patches, when a whole validation song is separated

    config.init_from = ""  # a run to take weights and statistics from
    config.init_encoder = ""  # a converted encoder, or a run, to take the encoder's from
    config.freeze_encoder = "none"  # none, weights, weights_and_statistics (BatchNorm's are not updated)
    config.unfreeze_epoch = 0  # epochs after which a frozen encoder is trained too; 0: never
    config.encoder_lr_scale = 1.0  # of the learning rate, for the encoder's parameters
    config.rematerialise = (
        False  # less memory for large batches: compute activations anew in the backward pass
    )
    config.parallel = "pmap"  # pmap, shard_map
    config.log_every_steps = 10
    config.steps_per_dispatch = 0  # of resident songs; 0: one on CPUs, up to ten elsewhere
    config.checkpoint = config_dict.ConfigDict()
    config.checkpoint.every_steps = 500  # besides those after each validation; 0: none
    config.checkpoint.every_minutes = 3.0  # 0: none
    config.max_minutes = 0.0  # wall-clock limit; 0: none
    return config
