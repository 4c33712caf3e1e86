"""The config of a run: every field there is, its default, and what it may be.

The defaults are the reference recipe, number for number. `configs/base.py` has these; the other config
files change some of them by name. `parse` makes a `Config` of a config file's ConfigDict or of nested
dictionaries, `parse_run` of a run's `config.json`. Every value is checked here: the rooms above can rely on
it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import Augmentation, channels_of
from vocalsep_jax.data.crops import TARGETS
from vocalsep_jax.data.placement import PLACEMENTS, STFT_ON
from vocalsep_jax.data.random_numbers import STREAM_LENGTH
from vocalsep_jax.measures.losses import LOSSES, OBJECTIVES
from vocalsep_jax.models import DTYPES
from vocalsep_jax.models.frontend import FREQUENCY_SCALES, INPUT_TRANSFORMS
from vocalsep_jax.models.networks import NETWORKS, Network, make_network
from vocalsep_jax.runtime.console import one_line
from vocalsep_jax.runtime.data_parallel import MODES
from vocalsep_jax.runtime.options import check_fields, checked, is_section, option, rule_of, shown

FORMAT = 5
"""Number of the format that a run's `config.json` is written in."""

RESUMABLE_SINCE = 3
"""First format whose runs are resumed. Older ones used another stream of samples: they are only read."""

_MOST_OF_A_PATCH = 2**22
"""Values of a patch. A config that came from elsewhere must not fill the memory; many are held at once."""

_MOST_FRAMES_OF_A_SAMPLE = 512

_LATER = ("network", "mixing")
"""Fields of the sections `audio` and `model` that earlier formats lack."""

_Section = TypeVar("_Section")


class ConfigError(ValueError):
    """The config asks for something impossible; the message names the field."""


@dataclass(frozen=True)
class AudioOptions:
    """`config.audio`: sample rate and spectrogram patches.

    Attributes:
      sample_rate: Hz.
      n_fft: FFT and window length in samples; there are `n_fft // 2 + 1` bins, DC to Nyquist.
      hop: samples from one frame to the next.
      patch_frames: frames T of a patch; 256 are about 1 s at the default hop and rate.
    """

    sample_rate: int = option(44_100, least=1, most=1_000_000)
    n_fft: int = option(510, least=2, most=2**17)
    hop: int = option(172, least=1)
    patch_frames: int = option(256, least=1, most=2**16)


@dataclass(frozen=True)
class BuiltinSongs:
    """`config.data.builtin`: the generated songs.

    Attributes:
      train_songs, valid_songs: number of songs to train and to validate on where `data.root` is empty.
      beside: number of songs to train on beside those of `data.root`.
      seconds: length of each song.
    """

    train_songs: int = option(24, least=1)
    valid_songs: int = option(2, least=1)
    beside: int = option(0, least=0)
    seconds: float = option(60.0, least=1)


@dataclass(frozen=True)
class DataOptions(Augmentation):
    """`config.data`: the songs, where they are kept, and how samples of them are changed (inherited).

    Attributes:
      root: folder of songs; empty for the built-in ones.
      instrumentals: folder of music without a voice, which is trained on too; empty for none.
      speeds: speeds at which the training songs are there, besides their own: resampled, with another
        pitch.
      cache: where prepared songs are kept; empty for `~/.cache/vocalsep_jax/songs`.
      valid_songs: validation songs to choose where none are given; 0 for a tenth.
      valid_names: names of the validation songs; empty to have them chosen.
      placement: where the songs are: `resident` on the devices, whole on each or in parts; on the `host`;
        or `auto`: resident if they fit.
      stft_on: where the STFT of songs placed on the host is taken: `host`, `device`.
      builtin: the built-in songs.
    """

    root: str = option("", may_change=True)
    instrumentals: str = option("", may_change=True)
    speeds: tuple[float, ...] = option((), least=0.5, most=2, items=float)
    cache: str = option("", may_change=True)
    valid_songs: int = option(0, least=0)
    valid_names: tuple[str, ...] = option(())
    placement: str = option("auto", choices=PLACEMENTS, may_change=True)
    stft_on: str = option("host", choices=STFT_ON, may_change=True)
    builtin: BuiltinSongs = dataclasses.field(default_factory=BuiltinSongs)


@dataclass(frozen=True)
class ModelOptions:
    """`config.model`: the network.

    Attributes:
      network: one of `models.networks.NETWORKS`.
      width: channels of its first layer.
      depth: number of down (and of up) layers.
      mixing: of the mixing along frequency in each block, how much narrower its inside is; 0 for none.
      dtype: dtype of its activations; parameters are float32.
    """

    network: str = option("unet", choices=NETWORKS)
    width: int = option(64, least=1, most=4096)
    depth: int = option(7, least=4, most=16)
    mixing: int = option(0, least=0)
    dtype: str = option("float32", choices=DTYPES)


@dataclass(frozen=True)
class OptimizerOptions:
    """`config.optimizer`: the optimiser and its learning rate.

    Attributes:
      kind: `adamw`, or `muon` for the kernels and AdamW for all else.
      learning_rate: its peak.
      weight_decay: decoupled weight decay, multiplied by the learning rate.
      schedule: the learning rate after warm-up: `constant`, or `cosine` to 0 at the last step.
      warmup_steps: steps over which the learning rate rises linearly from 0.
      clip_norm: global norm that gradients are clipped to; 0 for no clipping.
    """

    kind: str = option("adamw", choices=("adamw", "muon"))
    learning_rate: float = option(1e-5, least=0)
    weight_decay: float = option(1e-6, least=0)
    schedule: str = option("constant", choices=("constant", "cosine"))
    warmup_steps: int = option(0, least=0)
    clip_norm: float = option(0.0, least=0)


@dataclass(frozen=True)
class ValidationOptions:
    """`config.valid`: what is validated, and when.

    Attributes:
      patches: number of the fixed validation patches.
      every_epochs: epochs between validations.
      best_by: what the best checkpoint has the best of: validation `loss` (least), the whole song's `sdr`
        (most), or `last`: the last validation's is kept.
      song_overlap: share of a patch that overlaps the next where a whole validation song is separated.
    """

    patches: int = option(512, least=1)
    every_epochs: int = option(1, least=1)
    best_by: str = option("loss", choices=("loss", "sdr", "last"))
    song_overlap: float = option(0.25, least=0, below=1)


@dataclass(frozen=True)
class CheckpointOptions:
    """`config.checkpoint`: when checkpoints are written, besides those after each validation.

    Attributes:
      every_steps: steps between checkpoints; 0 for none by steps.
      every_minutes: minutes between checkpoints; 0 for none by time.
    """

    every_steps: int = option(500, least=0, may_change=True)
    every_minutes: float = option(3.0, least=0, may_change=True)


@dataclass(frozen=True)
class Config:
    """All options of a run. The defaults are the reference recipe.

    Attributes:
      name: the config's name; the run goes to `runs/<name>` unless told otherwise.
      seed: seed of the random weights and of the stream of samples.
      audio, data, model, optimizer, valid, checkpoint: sections; see their classes.
      input_transform: what the network sees of a magnitude, one of `models.frontend.INPUT_TRANSFORMS`.
      frequency_scale: the scale its layers work on, one of `models.frontend.FREQUENCY_SCALES`.
      frequency_bins: bins of a scale that is not linear.
      input_norm: whether each frequency bin of the input is standardised, by BatchNorm.
      batch_size: patches of a step, over all devices.
      patches_per_epoch: training patches of an epoch; an incomplete last batch is left out.
      epochs: number of epochs.
      loss: one of `measures.losses.LOSSES`.
      target: what the masked mixture is compared with, one of `data.crops.TARGETS`: the magnitude of the
        `vocals`, or their part `in_phase` with the mixture.
      objective: what is minimised of the patches' losses, one of `measures.losses.OBJECTIVES`: their `mean`
        or that of their `log`.
      log_floor: share of the mixture that is added to a patch's loss before its logarithm is taken.
      init_from: a run to take weights and statistics from.
      init_encoder: a converted encoder, or a run, to take the encoder's weights and statistics from.
      freeze_encoder: what of the encoder stays as it is: `none`, `weights`, or `weights_and_statistics`
        (BatchNorm's statistics too).
      unfreeze_epoch: epochs after which a frozen encoder is trained too; 0 for never.
      encoder_lr_scale: factor of the learning rate for the encoder's parameters.
      rematerialise: whether the backward pass computes activations anew, which saves memory.
      parallel: how a step is spread over devices: `pmap` or `shard_map`.
      log_every_steps: steps between lines of the log and of the history.
      steps_per_dispatch: most steps that one call takes, of resident songs; 0 for one on CPUs and ten
        elsewhere.
      max_minutes: wall-clock limit; 0 for none.
    """

    name: str = option("base", may_change=True)
    seed: int = option(0, least=0, below=STREAM_LENGTH)
    audio: AudioOptions = dataclasses.field(default_factory=AudioOptions)
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    input_transform: str = option("raw", choices=INPUT_TRANSFORMS)
    frequency_scale: str = option("linear", choices=FREQUENCY_SCALES)
    frequency_bins: int = option(256, least=2, most=2**16)
    input_norm: bool = option(False)
    batch_size: int = option(8, least=1)
    patches_per_epoch: int = option(13_000, least=1)
    epochs: int = option(100, least=1)
    loss: str = option("mse", choices=LOSSES)
    target: str = option("vocals", choices=TARGETS)
    objective: str = option("mean", choices=OBJECTIVES)
    log_floor: float = option(0.02, above=0)
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    valid: ValidationOptions = dataclasses.field(default_factory=ValidationOptions)
    init_from: str = option("", may_change=True)
    init_encoder: str = option("", may_change=True)
    freeze_encoder: str = option("none", choices=("none", "weights", "weights_and_statistics"))
    unfreeze_epoch: int = option(0, least=0)
    encoder_lr_scale: float = option(1.0, above=0)
    rematerialise: bool = option(False, may_change=True)
    parallel: str = option("pmap", choices=MODES, may_change=True)
    log_every_steps: int = option(10, least=1, may_change=True)
    steps_per_dispatch: int = option(0, least=0, may_change=True)
    checkpoint: CheckpointOptions = dataclasses.field(default_factory=CheckpointOptions)
    max_minutes: float = option(0.0, least=0, may_change=True)

    def __post_init__(self) -> None:
        """Check each field by itself, and those that depend on each other; raises ConfigError."""
        try:
            for prefix, section in (("", self), *_sections(self)):
                check_fields(section, prefix)
            self._check_together()
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def stft(self) -> Stft:
        """The STFT that `audio` describes."""
        return Stft(self.audio.n_fft, self.audio.hop)

    @property
    def patch(self) -> tuple[int, int]:
        """Bins F and frames T of a patch."""
        return self.stft.bins, self.audio.patch_frames

    @property
    def channels(self) -> int:
        """Channels K of the audio that the network sees, and masks, together."""
        return channels_of(self.data)

    @property
    def network_input(self) -> tuple[int, ...]:
        """Shape of a patch as the network sees it: `(F, T)`, or `(F, T, K)` if K is not 1."""
        return self.patch if self.channels == 1 else (*self.patch, self.channels)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.patches_per_epoch // self.batch_size

    @property
    def last_step(self) -> int:
        """Steps in all."""
        return self.epochs * self.steps_per_epoch

    def network(self, axis_name: str | None = None, *, freeze_statistics: bool = False) -> Network:
        """The network, a Flax module; the arguments become attributes of the same names."""
        return make_network(
            self.model.network,
            width=self.model.width,
            depth=self.model.depth,
            mixing=self.model.mixing,
            channels=self.channels,
            dtype=self.model.dtype,
            input_transform=self.input_transform,
            frequency_scale=self.frequency_scale,
            frequency_bins=self.frequency_bins,
            input_norm=self.input_norm,
            freeze_statistics=freeze_statistics,
            axis_name=axis_name,
        )

    def _check_together(self) -> None:
        """Raise ValueError for fields that contradict each other."""
        if self.patches_per_epoch < self.batch_size:
            raise ValueError(
                f"patches_per_epoch must be at least one batch, batch_size {self.batch_size}, "
                f"not {self.patches_per_epoch}"
            )
        if (samples := self.epochs * self.patches_per_epoch) >= STREAM_LENGTH:
            raise ValueError(f"epochs x patches_per_epoch must be below 2^32, not {samples}")
        if (absent := self.data.voice_absent + self.data.accompaniment_absent) > 1:
            raise ValueError(
                f"data.voice_absent + data.accompaniment_absent must be at most 1, not {absent}"
            )
        if self.init_from and self.init_encoder:
            raise ValueError("init_from and init_encoder: a run starts from one of them, not both")
        if self.unfreeze_epoch and self.freeze_encoder == "none":
            raise ValueError(
                f"unfreeze_epoch is {self.unfreeze_epoch}, but freeze_encoder is none: nothing is frozen"
            )
        if self.unfreeze_epoch >= self.epochs:
            raise ValueError(
                f"unfreeze_epoch {self.unfreeze_epoch} is never reached in {self.epochs} epochs; "
                "0 means never"
            )
        if not self.audio.hop <= self.audio.n_fft // 2:
            raise ValueError(
                f"audio.hop must be at most audio.n_fft / 2 = {self.audio.n_fft // 2}, not {self.audio.hop}"
            )
        if self.audio.n_fft > _MOST_FRAMES_OF_A_SAMPLE * self.audio.hop:
            raise ValueError(
                f"audio.hop must be at least audio.n_fft / {_MOST_FRAMES_OF_A_SAMPLE}, not {self.audio.hop}"
            )
        if (values := self.stft.bins * self.audio.patch_frames) > _MOST_OF_A_PATCH:
            raise ValueError(
                f"audio.n_fft and audio.patch_frames make patches of {values} values; at most "
                f"{_MOST_OF_A_PATCH} fit into memory"
            )
        network = self.network()
        try:
            network.check_patch(*self.patch)
        except ValueError as error:
            raise ValueError(
                f"{error}. They come from audio.n_fft (bins: n_fft / 2 + 1), or from frequency_bins where "
                f"frequency_scale is not linear, and from audio.patch_frames; the depth is model.depth"
            ) from error


def parse(fields: Any) -> Config:
    """The config that `fields` describe; absent fields have their defaults.

    Args:
      fields: a `Config`, an ml_collections ConfigDict, or nested dictionaries.

    Raises:
      ConfigError: if a field is unknown, a value is not allowed, or values contradict each other;
        the message names the field, what is allowed, and the value given.
    """
    if isinstance(fields, Config):
        return fields
    plain = fields.to_dict() if hasattr(fields, "to_dict") else fields
    try:
        return _section(Config, plain, "")
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def parse_run(fields: Any, format: int) -> Config:
    """The config in the `config.json` of a run, of this format or an earlier one.

    Raises:
      ConfigError: as `parse`; and if a field of `audio` or `model` is missing: which network the run has is
        then unknown.
    """
    if not isinstance(fields, Mapping):
        raise ConfigError("it holds no fields")
    fields = copy.deepcopy(dict(fields))
    for name, options in (("audio", AudioOptions), ("model", ModelOptions)):
        section = fields.get(name)
        if not isinstance(section, Mapping):
            raise ConfigError(f"it has no section {name}")
        for field in dataclasses.fields(options):
            if field.name not in section and field.name not in _LATER:
                raise ConfigError(f"it has no field {name}.{field.name}")
    if format < 2:  # the front end was the model's, and had no frequency scale
        fields["input_transform"] = fields["model"].pop("input_transform", "raw")
    if format < 4 and isinstance(fields.get("data"), dict) and "repair" in fields["data"]:
        fields["data"]["remix"] = fields["data"].pop("repair")
    return parse(fields)


def to_fields(config: Any) -> dict[str, Any]:
    """A config, or a section of one, as nested dictionaries."""
    return dataclasses.asdict(config)


def differences(old: Config, new: Config) -> list[str]:
    """Fields in which a run to resume and a config differ, as `field: old -> new`.

    Fields that do not change what a run computes, beyond rounding, are left out.
    """
    return sorted(_differences(old, new, ""))


def _differences(old: Any, new: Any, prefix: str) -> list[str]:
    found = []
    for field in dataclasses.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if is_section(field):
            found += _differences(a, b, f"{prefix}{field.name}.")
        elif a != b and not rule_of(field).may_change:
            found.append(f"{prefix}{field.name}: {_shown(a)} -> {_shown(b)}")
    return found


def _shown(value: Any) -> str:
    return shown(list(value) if isinstance(value, tuple) else value)


def _sections(options: Any, prefix: str = "") -> Sequence[tuple[str, Any]]:
    """All sections of `options`, nested ones too, each with the prefix of its fields' names."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(options):
        if is_section(field):
            path, section = f"{prefix}{field.name}.", getattr(options, field.name)
            found += [(path, section), *_sections(section, path)]
    return found


def _section(kind: type[_Section], given: Any, prefix: str) -> _Section:
    """An options dataclass of `kind` from a mapping; ValueError names the field that is wrong."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{prefix.rstrip('.') or 'a config'} must be a section of fields, not {shown(given)}"
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            path = one_line(f"{prefix}{name}"[:200])
            raise ValueError(f"the config has no field {path}; there are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = fields[name]
        if is_section(field):
            values[name] = _section(field.default_factory, value, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            values[name] = checked(value, field, prefix + name)
    return kind(**values)
