"""Validation: the fixed patches, and a whole song.

Axis letters: `B` batch, `F` frequency bins, `T` frames, `S` samples, `C` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vocalsep_jax.config import Config
from vocalsep_jax.data.feed import Work
from vocalsep_jax.data.songs import Song, Stems
from vocalsep_jax.evaluation.scores import baselines
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.runtime.data_parallel import CompiledStep, to_host
from vocalsep_jax.separation.streaming import MaskFilter, channel_groups
from vocalsep_jax.training.step import QUALITIES

SONG_BATCH = 8
"""Patches of the validation song that are predicted at once."""

_CLIP_SECONDS = 10


def validate_patches(evaluate: CompiledStep, variables: Any, work: Iterable[Work]) -> dict[str, float]:
    """Means of `QUALITIES` over all validation patches."""
    sums = [evaluate(variables, item.batch, *item.shared) for item in work]
    total = jax.tree.map(lambda *x: float(np.sum(x, dtype=np.float64)), *map(to_host, sums))
    return {quality: total[quality] / total["patches"] for quality in QUALITIES}


@dataclass(frozen=True)
class ValidationSong:
    """A song that is separated whole at each validation.

    Attributes:
      stems: at the config's sample rate.
      config: of the run.
      baselines: uSDR in dB of `mixture`, `silence` and `ideal`.
    """

    stems: Stems
    config: Config
    baselines: dict[str, float]

    @classmethod
    def load(cls, song: Song, config: Config) -> ValidationSong:
        """Read a song, and score what its separation is measured against."""
        rate = config.audio.sample_rate
        stems = song.load(rate)
        return cls(stems, config, baselines(stems, config.stft, sample_rate=rate, mask_rate=rate))

    def separate(self, predict: Callable[[np.ndarray], Any]) -> np.ndarray:
        """Its voice, float32 `[S, C]`; `predict` is the network, from a batch of magnitudes to masks."""
        mixture, config = self.stems.mixture, self.config
        mask_filter = MaskFilter(
            config.stft,
            predict,
            channels=mixture.shape[1],
            groups=channel_groups(mixture.shape[1], config.channels),
            patch_frames=config.audio.patch_frames,
            batch_size=SONG_BATCH,
            overlap=config.valid.song_overlap,
        )
        return np.concatenate([mask_filter.push(mixture), mask_filter.finish()])

    def score(self, estimate: np.ndarray) -> dict[str, float]:
        """uSDR in dB of an estimate of its voice (`sdr`) and of the baselines (`sdr_mixture`, ...)."""
        scores = {f"sdr_{name}": value for name, value in self.baselines.items()}
        return {"sdr": usdr(self.stems.vocals, estimate)} | scores

    def clips(self, estimate: np.ndarray) -> dict[str, np.ndarray]:
        """The stretch in which the voice is loudest, to listen to: `[S, C]` each."""
        whole = {"mixture": self.stems.mixture, "predicted": estimate, "desired": self.stems.vocals}
        loudest = _loudest_window(self.stems.vocals, _CLIP_SECONDS * self.config.audio.sample_rate)
        return {name: x[loudest] for name, x in whole.items()}


def _loudest_window(x: np.ndarray, length: int) -> slice:
    """The stretch of `length` samples (or all) of `[S, C]` with most energy, on a coarse grid."""
    step = max(1, length // 4)
    starts = range(0, max(1, len(x) - length), step)
    start = max(starts, key=lambda s: float(np.sum(np.square(x[s : s + length]))))
    return slice(start, start + length)
