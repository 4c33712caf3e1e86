"""Scores of a song: the model's, and what it is measured against."""

from __future__ import annotations

import numpy as np

from vocalsep_jax.audio.masks import apply_resampled_mask, ideal_ratio_mask
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.songs import Stems
from vocalsep_jax.measures import metrics
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.separation.separator import Separator


def baselines(song: Stems, stft: Stft, *, sample_rate: int, mask_rate: int) -> dict[str, float]:
    """uSDR in dB of what a separation is measured against: `mixture`, `silence`, `ideal`.

    Args:
      song: its stems at `sample_rate`.
      stft: the transform of the ideal ratio mask.
      sample_rate: Hz, at which the scores are taken.
      mask_rate: Hz, at which the mask works.
    """
    vocals, accompaniment = (resample(x, sample_rate, mask_rate) for x in (song.vocals, song.accompaniment))
    ideal = apply_resampled_mask(
        song.mixture,
        stft,
        lambda _: ideal_ratio_mask(vocals, accompaniment, stft),
        sample_rate=sample_rate,
        mask_rate=mask_rate,
    )
    return {
        "mixture": usdr(song.vocals, song.mixture),
        "silence": usdr(song.vocals, np.zeros_like(song.vocals)),
        "ideal": usdr(song.vocals, ideal),
    }


def score_song(
    song: Stems, sample_rate: int, separator: Separator, *, leakage: bool = False
) -> dict[str, float]:
    """uSDR in dB of the estimate and the baselines of a song at `sample_rate` Hz; leakage, if wanted."""
    estimate = separator.separate(song.mixture, sample_rate)["vocals"]
    scores = baselines(song, separator.stft, sample_rate=sample_rate, mask_rate=separator.sample_rate)
    scores["estimate"] = usdr(song.vocals, estimate)
    if leakage:
        estimate = separator.separate(song.accompaniment, sample_rate)["vocals"]
        scores["leakage"] = metrics.leakage(song.accompaniment, estimate)
    return scores
