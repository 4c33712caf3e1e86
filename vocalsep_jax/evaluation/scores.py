"""Scores of a song: the model's, and what it is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vocalsep_jax.audio.masks import apply_resampled_mask, ideal_ratio_mask
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.songs import Stems
from vocalsep_jax.measures import metrics
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.separation.separator import Separator


def masked_by_truth(
    song: Stems,
    rate: int,
    *,
    mask: Callable[[np.ndarray, np.ndarray, Stft], np.ndarray],
    stft: Stft,
    mask_rate: int,
) -> np.ndarray:
    """The mixture through a mask that is made of the true stems: float32 `[S, C]`.

    Args:
      song: its stems at `rate` Hz.
      rate: Hz.
      mask: from vocals and accompaniment `[S, C]` at `mask_rate` to `[C, F, N]`.
      stft: the mask's transform.
      mask_rate: Hz, at which the mask works.
    """
    vocals, accompaniment = (resample(x, rate, mask_rate) for x in (song.vocals, song.accompaniment))
    return apply_resampled_mask(
        song.mixture,
        stft,
        lambda _: mask(vocals, accompaniment, stft),
        sample_rate=rate,
        mask_rate=mask_rate,
    )


def baselines(song: Stems, stft: Stft, *, sample_rate: int, mask_rate: int) -> dict[str, float]:
    """uSDR in dB of what a separation is measured against: `mixture`, `silence`, `ideal`.

    Args:
      song: its stems at `sample_rate`.
      stft: the transform of the ideal ratio mask.
      sample_rate: Hz, at which the scores are taken.
      mask_rate: Hz, at which the mask works.
    """
    ideal = masked_by_truth(song, sample_rate, mask=ideal_ratio_mask, stft=stft, mask_rate=mask_rate)
    return {
        "mixture": usdr(song.vocals, song.mixture),
        "silence": usdr(song.vocals, np.zeros_like(song.vocals)),
        "ideal": usdr(song.vocals, ideal),
    }


def score_song(
    song: Stems, sample_rate: int, separators: Mapping[str, Separator], *, leakage: bool = False
) -> dict[str, float | None]:
    """uSDR in dB of estimates and baselines of a song at `sample_rate` Hz; leakage, if wanted.

    Args:
      song: its stems at `sample_rate`.
      sample_rate: Hz, at which the scores are taken.
      separators: by name. The ideal mask is at the first one's STFT.
      leakage: whether the accompaniment alone is separated, too.

    Returns:
      `mixture`, `silence`, `ideal` and the names; for each of them `<name> leakage`, or `leakage` if there
      is one. None where there is no score: of vocals or music that are silent.
    """
    first = next(iter(separators.values()))
    scores: dict[str, float | None] = {}
    scores |= baselines(song, first.stft, sample_rate=sample_rate, mask_rate=first.sample_rate)
    for name, separator in separators.items():
        scores[name] = usdr(song.vocals, separator.separate(song.mixture, sample_rate)["vocals"])
    if metrics.is_silent(song.vocals):
        scores = dict.fromkeys(scores)
    for name, separator in separators.items() if leakage else ():
        taken = separator.separate(song.accompaniment, sample_rate)["vocals"]
        key = f"{name} leakage" if len(separators) > 1 else "leakage"
        silent = metrics.is_silent(song.accompaniment)
        scores[key] = None if silent else metrics.leakage(song.accompaniment, taken)
    return scores
