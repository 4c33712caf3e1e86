"""All measures of a song: what they are, and how one method's estimate is scored by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vocalsep_jax.data.songs import Stems
from vocalsep_jax.measures import metrics
from vocalsep_jax.measures.bss_eval import BssEval

Values = dict[str, float | None]

FORMAT = 1
"""Another one whenever a measure changes, so that scores that were kept are not taken for new ones."""

FRAME_SECONDS = 1.0
TARGETS = ("vocals", "accompaniment")
_LEAST_DB, _MOST_DB = -120.0, 100.0
"""Numbers beyond are cut off there: they tell of rounding. 16-bit samples hold 98 dB."""
_FAINT = 1e-4
"""Share of the energy of a song's loudest frame below which the voice is not worth a picture."""


class Measure(NamedTuple):
    """A number that a method has for a song.

    Attributes:
      name: as it is printed.
      title: in a few words.
      definition: in a few sentences.
      higher_is_better: else lower.
      of_target: whether vocals and accompaniment have one each.
      of_frames: whether each frame has one.
    """

    name: str
    title: str
    definition: str
    higher_is_better: bool = True
    of_target: bool = True
    of_frames: bool = True


MEASURES = {
    "usdr": Measure(
        "uSDR",
        "true against error, whole song",
        "10 log10((Σ ref² + 1e-7) / (Σ (ref - est)² + 1e-7)) over all samples and channels of the song "
        "(Mitsufuji et al. 2022). Silence in the place of the vocals has 0 dB.",
    ),
    "sdr": Measure(
        "SDR",
        "source to distortion",
        "The true source against everything that differs from it; the same ratio as uSDR, but taken in "
        "frames of one second, of which the median counts.",
    ),
    "sir": Measure(
        "SIR",
        "source to interference",
        "The source, filtered by 512 taps, against what the other source explains beyond that.",
    ),
    "sar": Measure(
        "SAR",
        "sources to artefacts",
        "All that filtered sources explain against the rest. The mixture has no artefacts: its SAR only "
        "tells of rounding.",
    ),
    "isr": Measure(
        "ISR",
        "image to spatial distortion",
        "The true source against what a filter of 512 taps made of it: colouring, level and place in the "
        "stereo image.",
    ),
    "pes": Measure(
        "PES",
        "predicted energy at silence",
        "The mean over silent frames of the true source (peak below -80 dB) of 10 log10(e + 1e-12), e the "
        "energy of the estimate in that second, averaged over channels (Schulze-Forster et al. 2019). The "
        "floor is -120 dB.",
        higher_is_better=False,
        of_frames=False,
    ),
    "leakage": Measure(
        "leakage",
        "voice heard in music without any",
        "10 log10((Σ est² + 1e-7) / (Σ music² + 1e-7)) of what is taken for voice when the accompaniment "
        "alone is separated. 0 dB: all of it. Only of methods that hear nothing but the mixture.",
        higher_is_better=False,
        of_target=False,
        of_frames=False,
    ),
}
"""The measures by their keys. SDR, SIR, SAR and ISR are BSSEval v4: medians over frames of one second."""


def columns() -> dict[str, Measure]:
    """The measures of a song as columns: `vocals_usdr`, ..., `accompaniment_usdr`, ..., `leakage`."""
    of_targets = {f"{t}_{key}": m for t in TARGETS for key, m in MEASURES.items() if m.of_target}
    return of_targets | {key: m for key, m in MEASURES.items() if not m.of_target}


def frame_columns() -> tuple[str, ...]:
    """The measures of a frame: `vocals_usdr`, `vocals_sdr`, ..."""
    return tuple(f"{t}_{key}" for t in TARGETS for key, m in MEASURES.items() if m.of_frames)


@dataclass(frozen=True)
class Scores:
    """What a method reached on a song.

    Attributes:
      values: the measures of `columns`; None where there is none, as where the reference is silent.
      frames: the measures of `frame_columns`, a list of N values each; None where there is none.
      signal, error: energy of the true vocals, and of the error of the estimated ones, in each frame.
      voiced: whether the true vocals sound in the frame.
    """

    values: Values
    frames: dict[str, list[float | None]]
    signal: list[float]
    error: list[float]
    voiced: list[bool]


class SongScorer:
    """A song, whose methods are scored one after the other."""

    def __init__(self, song: Stems, rate: int):
        """Take the song's stems at `rate` Hz, at which the scores are taken."""
        self._song, self._rate = song, rate
        self._window = round(FRAME_SECONDS * rate)
        self._bss = BssEval(np.stack([song.vocals, song.accompaniment]), window=self._window)

    def score(
        self, vocals: np.ndarray, accompaniment: np.ndarray, from_music: np.ndarray | None = None
    ) -> Scores:
        """Score one method.

        Args:
          vocals, accompaniment: what it took for them, float32 `[S, C]`.
          from_music: what it took for voice in the accompaniment alone; None if that is not measured.
        """
        values: Values = {}
        frames: dict[str, list[float | None]] = {}
        ratios = self._bss.score(np.stack([vocals, accompaniment]))
        pairs = ((self._song.vocals, vocals), (self._song.accompaniment, accompaniment))
        for number, (target, (truth, estimate)) in enumerate(zip(TARGETS, pairs, strict=True)):
            usdr, *_ = metrics.frame_usdr(truth, estimate, self._window)
            usdr[metrics.silent_frames(truth, self._window)] = np.nan
            whole = math.nan if metrics.is_silent(truth) else metrics.usdr(truth, estimate)
            frames[f"{target}_usdr"], values[f"{target}_usdr"] = _numbers(usdr), _number(whole)
            for key, ratio in ratios._asdict().items():
                frames[f"{target}_{key}"] = listed = _numbers(ratio[number])
                values[f"{target}_{key}"] = median(listed)
            pes = metrics.predicted_energy_at_silence(truth, estimate, self._window)
            values[f"{target}_pes"] = None if pes is None else _number(pes)
        values["leakage"] = None
        music = self._song.accompaniment
        if from_music is not None and not metrics.is_silent(music):
            values["leakage"] = _number(metrics.leakage(music, from_music))
        _, signal, error = metrics.frame_usdr(self._song.vocals, vocals, self._window)
        voiced = ~metrics.silent_frames(self._song.vocals, self._window)
        return Scores(
            {name: values[name] for name in columns()},
            {name: frames[name] for name in frame_columns()},
            signal.tolist(),
            error.tolist(),
            voiced.tolist(),
        )


def median(values: Sequence[float | None]) -> float | None:
    """The median of those that there are; None if there are none."""
    there = [value for value in values if value is not None]
    return _number(float(np.median(there))) if there else None


class Window(NamedTuple):
    """A part of a song that is shown.

    Attributes:
      kind: `best` or `worst`.
      first, last: its frames, the last not among them.
      usdr: of the vocals in it, dB.
    """

    kind: str
    first: int
    last: int
    usdr: float


def extreme_windows(scores: Scores, length: int = 10) -> list[Window]:
    """The windows of `length` frames with the greatest and the least uSDR of the vocals.

    The voice sounds in at least half of their frames, and not as the rest of an echo: at most 40 dB below
    the song's loudest frame. They do not overlap, where the song has two such windows; else there is one,
    or none if the voice sounds nowhere so long.
    """
    count = len(scores.signal)
    length = min(length, count)
    kernel = np.ones(length)
    energy = np.array(scores.signal, np.float64)
    heard = np.array(scores.voiced) & (energy >= _FAINT * energy.max(initial=0.0))
    signal, error, voiced = (
        np.convolve(np.array(x, np.float64), kernel, "valid") for x in (energy, scores.error, heard)
    )
    usdr = 10 * np.log10((signal + 1e-7) / (error + 1e-7))
    places = np.flatnonzero(voiced >= length / 2)
    if not len(places):
        return []
    best = int(places[np.argmax(usdr[places])])
    found = [Window("best", best, best + length, float(usdr[best]))]
    apart = places[np.abs(places - best) >= length]
    if len(apart):
        worst = int(apart[np.argmin(usdr[apart])])
        found.append(Window("worst", worst, worst + length, float(usdr[worst])))
    return found


def _number(value: float) -> float | None:
    """`value` in dB with four decimals, within the limits; None for NaN."""
    return None if math.isnan(value) else round(min(max(value, _LEAST_DB), _MOST_DB), 4)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(float(value)) for value in values]
