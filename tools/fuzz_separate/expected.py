"""What the outputs of a song are to be, as far as that can be told without the command."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.fuzz_separate.cases import Case, is_folder
from tools.fuzz_separate.formats import MP3_RATES, VORBIS_RATES, mp3_bit_rates
from tools.fuzz_separate.reader import Sound, sound_of
from vocalsep_jax import separate
from vocalsep_jax.separation.stem_files import STEMS


@dataclass
class Expected:
    """What the outputs of a sound are to be.

    Attributes:
      stems: float64 `[S, C]` each, before they are rounded and cut off.
      rate: Hz.
      scale: what they were multiplied by.
      error: how far they may be off, from other orders of the same sums.
    """

    stems: dict[str, np.ndarray]
    rate: int
    scale: float
    error: float

    def beyond(self, case: Case) -> float:
        """How far the stems that are written go beyond full scale; below 0 if they do not."""
        return max(float(np.abs(self.stems[stem]).max()) for stem in case.stems) - case.full_scale

    def margin(self, case: Case) -> float:
        """How far `beyond` may be off, with rounding."""
        return self.error + 2 * case.step


def expected_of(case: Case, mixture: np.ndarray, rate: int) -> Expected | None:
    """What the outputs are to be, from the stems of the whole array; None if it cannot be separated."""
    try:
        stems = separate.Separator(str(case.run), **case.settings).separate(mixture, rate)
    except ValueError:
        return None
    exact = {stem: samples.astype(np.float64) for stem, samples in stems.items()}
    error = (0.05 if case.settings["dtype"] == "bfloat16" else 2e-5) * float(np.abs(mixture).max())
    scale, peak = 1.0, max(float(np.abs(exact[stem]).max()) for stem in STEMS)
    if case.clip_mode == "rescale" and peak > case.full_scale:
        scale = case.full_scale / peak
        exact = {stem: samples * scale for stem, samples in exact.items()}
    return Expected(exact, rate, scale, error)


def part_of(case: Case, sound: Sound) -> np.ndarray:
    """The part of a sound that the options ask for, `[S, C]`."""
    first = min(case.start * sound.rate, 1e18)
    count = math.inf if case.duration is None else max(1, round(min(case.duration * sound.rate, 1e18)))
    return sound.samples[round(first) : int(min(round(first) + count, 1e18))]


def must_succeed(case: Case, usable: bool | None, path: Path, outputs: dict[str, Path]) -> bool | None:
    """Whether a track must be separated (True), must fail (False), or may do either (None).

    Args:
      case: of the track.
      usable: the same, as far as its file alone tells.
      path: its file.
      outputs: where its stems go.
    """
    if usable is False or case.out.is_file() or any(map(is_folder, outputs.values())):
        return False
    if any(len(os.fsencode(part)) > 255 for output in outputs.values() for part in output.parts):
        return False
    sound = sound_of(path)
    if usable is None or sound is None or case.file_limit is not None:
        return None
    part = part_of(case, sound)
    if not len(part) or not np.isfinite(part).all():
        return False
    fits = _holds(case, sound.rate, sound.channels)
    if fits and case.clip_mode == "none" and case.sample != "float32":
        expected = expected_of(case, part, sound.rate)
        if expected is None:
            return False
        beyond = expected.beyond(case)
        return None if abs(beyond) <= expected.margin(case) else beyond < 0
    return fits


def _holds(case: Case, rate: int, channels: int) -> bool | None:
    """Whether the outputs' container holds such sound; None where the encoder is to say."""
    if case.container == "mp3":
        rates = mp3_bit_rates(rate)
        if channels > 2 or rate > 48_000 or not rates[0] <= (case.bitrate or rates[0]) <= rates[-1]:
            return False
        return rate in MP3_RATES or None
    if case.container == "ogg":
        return rate in VORBIS_RATES or None
    return case.container == "wav" or (channels <= 8 and rate <= 655_350)
