"""What a song measures: its stems one by one and against each other, in one reading, in blocks.

Axis letters: `S` samples, `C` channels, `B` blocks of a quarter of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocalsep_jax.audio.files import AudioError, Reader
from vocalsep_jax.audio.resampling import Resampler
from vocalsep_jax.data.check.alignment import Aligner, Alignment
from vocalsep_jax.data.check.files import SongFiles, side_by_side
from vocalsep_jax.data.check.fingerprint import RATE, STFT, Fingerprint, Landmarks
from vocalsep_jax.data.check.meters import Levels, Meter, decibels, powers
from vocalsep_jax.data.sampling import VOICED_BLOCK_SECONDS, voiced_blocks
from vocalsep_jax.data.songs import ACCOMPANIMENT_STEMS

RECORDINGS = ("vocals", "accompaniment", "mixture")
"""What a song has fingerprints of; the mixture is the sum of the two others."""

_BLOCKS_AT_ONCE = 16
_NOTHING = 1e-20  # power, -200 dB
_LOWEST_RATE = 1000  # Hz; below, a file's header is wrong, and resampling it would fill the memory
_LARGEST = 1e10  # sample value; integers of 32 bits that were taken for floats are below


@dataclass
class SongReport:
    """What a song measures. What could not be measured is None.

    Attributes:
      song: its files.
      levels: of each stem that could be read to its end.
      damage: of each stem that could not, why.
      seconds: what training would use: the length of the shortest stem.
      rate: Hz, at which the stems were compared.
      active: bool `[B]`, the blocks in which the voice sounds, as training has it.
      voice_db, accompaniment_db: RMS of each block, dBFS, float32 `[B]`; -inf for silence.
      voice_to_accompaniment_db: power of the voice over that of the accompaniment, dB, while the voice
        sounds.
      stem_correlation: of vocals and accompaniment, in [-1, 1].
      residual_db: power of the given mixture minus the sum of the stems, over that of the mixture, dB; of
        the given mixture minus the vocals if there is no other accompaniment. -200 if nothing is left.
      alignment: of the given mixture to the sum of the stems, or to the vocals.
      fingerprints: of each of `RECORDINGS`.
    """

    song: SongFiles
    levels: dict[str, Levels] = field(default_factory=dict)
    damage: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    rate: int = 0
    active: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    voice_db: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    accompaniment_db: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    voice_to_accompaniment_db: float | None = None
    stem_correlation: float | None = None
    residual_db: float | None = None
    alignment: Alignment | None = None
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether all its stems could be read."""
        return bool(self.levels) and not self.damage

    @property
    def voiced_seconds(self) -> float:
        """How long the voice sounds."""
        return float(self.active.sum()) * VOICED_BLOCK_SECONDS


def measure_song(song: SongFiles, progress: Callable[[float], None] = lambda seconds: None) -> SongReport:
    """Measure a song.

    Args:
      song: its files; what cannot be read of them is noted.
      progress: told of the seconds that were read since it was last told.
    """
    report = SongReport(song)
    readers: dict[str, Reader] = {}
    try:
        for name, source in song.stems.items():
            try:
                readers[name] = _opened(*source)
            except AudioError as error:
                report.damage[name] = _reason(error, song, name)
        _measure(report, readers, progress)
    finally:
        for reader in readers.values():
            reader.__exit__()
    return report


def _opened(path: Path, stream: int) -> Reader:
    """A reader of a stem; raises AudioError if there is none, or its sample rate cannot be right."""
    reader = Reader(path, stream)
    if reader.rate < _LOWEST_RATE:
        reader.__exit__()
        raise AudioError(f"{path}: has a sample rate of {reader.rate} Hz, which is too low for music")
    return reader


def _measure(report: SongReport, readers: dict[str, Reader], progress: Callable[[float], None]) -> None:
    """Measure what could be opened."""
    stereo = {name: reader for name, reader in readers.items() if reader.channels <= 2}
    if not readers:
        return
    report.rate = rate = next(iter((stereo or readers).values())).rate
    streams = {name: _stem(report, name, reader, rate) for name, reader in readers.items()}
    block = round(VOICED_BLOCK_SECONDS * rate)
    together = _Together(rate, block)
    open_end = True  # while no stem has ended
    for step in side_by_side(streams, block * _BLOCKS_AT_ONCE):
        length = min(len(step[name]) for name in stereo) if stereo else 0
        if open_end and not report.damage and length:
            together.push({name: step[name][:length] for name in stereo})
        open_end = open_end and length == block * _BLOCKS_AT_ONCE
        progress(max(map(len, step.values())) / rate)
    if report.levels:
        report.seconds = min(levels.seconds for levels in report.levels.values())
    if not report.damage:
        together.finish(report)


def _stem(report: SongReport, name: str, reader: Reader, rate: int) -> Iterator[np.ndarray]:
    """Blocks of a stem at `rate` Hz, float32 `[S, 2]` (or all channels), measured on the way."""
    meter, resampler = Meter(reader.rate, reader.channels), Resampler(reader.rate, rate, reader.channels)
    try:
        for block in reader.blocks():
            if max(block.max(initial=0), -block.min(initial=0)) > _LARGEST:
                raise AudioError(f"{reader.path}: holds samples beyond {_LARGEST:g} times full scale")
            meter.push(block)
            yield _stereo(resampler.push(block))
    except AudioError as error:
        report.damage[name] = _reason(error, report.song, name)
        return
    report.levels[name] = meter.finish()
    yield _stereo(resampler.finish())


def _stereo(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=1) if x.shape[1] == 1 else x


def _mono(x: np.ndarray) -> np.ndarray:
    """Float32 `[S, 2]` -> `[S]`; many times faster than `mean` along an axis of two."""
    return np.float32(0.5) * (x[:, 0] + x[:, 1])


def _reason(error: AudioError, song: SongFiles, name: str) -> str:
    return str(error).removeprefix(f"{song.stems[name].path}: ")


class _Together:
    """Measures of stems against each other, as they come side by side."""

    def __init__(self, rate: int, block: int):
        self._block = block
        self._voice: list[np.ndarray] = []
        self._accompaniment: list[np.ndarray] = []
        self._products = np.zeros(3)  # of vocals with accompaniment, and of each with itself
        self._mixture = self._residual = 0.0
        self._given = False
        self._aligner = Aligner(block * _BLOCKS_AT_ONCE)
        self._prints = _Prints(rate)

    def push(self, stems: dict[str, np.ndarray]) -> None:
        """Take the next samples of all stems, float32 `[S, 2]`."""
        given = stems.get("mixture")
        vocals = stems.get("vocals")
        accompaniment, derived = _accompaniment(stems)
        if accompaniment is None and vocals is None:
            return
        zeros = np.zeros_like(next(iter(stems.values())))
        voice, band = (zeros if x is None else x for x in (vocals, accompaniment))
        whole = len(voice) // self._block * self._block
        for x, into in ((voice, self._voice), (band, self._accompaniment)):
            into.append(powers(x[:whole].reshape(-1, self._block, 2)) if whole else np.zeros(0))
        self._products += [float(np.vdot(a, b)) for a, b in ((voice, band), (voice, voice), (band, band))]
        self._prints.push(voice, band)
        if given is not None:
            self._given = True
            total = voice if derived else voice + band
            difference = given - total
            self._mixture += float(np.vdot(given, given))
            self._residual += float(np.vdot(difference, difference))
            self._aligner.push(_mono(given), _mono(total))

    def finish(self, report: SongReport) -> None:
        """Note what was measured."""
        nothing = [np.zeros(0)]
        voice, band = (np.concatenate(x or nothing) for x in (self._voice, self._accompaniment))
        report.voice_db, report.accompaniment_db = _block_levels(voice), _block_levels(band)
        report.active = np.zeros(len(voice), bool)
        # `voiced_blocks` takes waveforms: one sample a block, with the block's RMS, is one for it.
        rms = np.repeat(np.sqrt(voice)[:, None], 2, axis=1)
        report.active[voiced_blocks(rms, round(1 / VOICED_BLOCK_SECONDS))] = True
        sung, played = voice[report.active].sum(), band[report.active].sum()
        if sung > 0 and played > 0:
            report.voice_to_accompaniment_db = decibels(float(sung / played))
        cross, *energies = self._products
        if min(energies) > 0:
            report.stem_correlation = float(cross / math.sqrt(energies[0] * energies[1]))
        if self._given and self._mixture > 0:
            report.residual_db = decibels(max(self._residual / self._mixture, _NOTHING))
            report.alignment = self._aligner.finish()
        report.fingerprints = self._prints.finish()


def _accompaniment(stems: dict[str, np.ndarray]) -> tuple[np.ndarray | None, bool]:
    """The accompaniment as training has it, and whether it is the mixture without the vocals."""
    if "accompaniment" in stems:
        return stems["accompaniment"], False
    if all(name in stems for name in ACCOMPANIMENT_STEMS):
        return np.sum([stems[name] for name in ACCOMPANIMENT_STEMS], axis=0), False
    if "mixture" in stems and "vocals" in stems:
        return stems["mixture"] - stems["vocals"], True
    return None, False


def _block_levels(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (10 * np.log10(power)).astype(np.float32)


class _Prints:
    """The fingerprints of a song, from one STFT of each stem: the mixture's is their sum."""

    def __init__(self, rate: int):
        self._resamplers = [Resampler(rate, RATE, 1), Resampler(rate, RATE, 1)]
        self._held = [np.zeros(0, np.float32), np.zeros(0, np.float32)]
        self._landmarks = {name: Landmarks() for name in RECORDINGS}

    def push(self, vocals: np.ndarray, accompaniment: np.ndarray) -> None:
        """Take the next samples, float32 `[S, 2]`."""
        stems = (vocals, accompaniment)
        self._add([r.push(_mono(x)[:, None]) for r, x in zip(self._resamplers, stems, strict=True)])

    def finish(self) -> dict[str, Fingerprint]:
        """The fingerprints."""
        self._add([resampler.finish() for resampler in self._resamplers])
        return {name: landmarks.finish() for name, landmarks in self._landmarks.items()}

    def _add(self, new: list[np.ndarray]) -> None:
        self._held = [np.concatenate([x, y[:, 0]]) for x, y in zip(self._held, new, strict=True)]
        if len(self._held[0]) < STFT.n_fft:
            return
        spectra = [STFT.transform(x) for x in self._held]
        taken = spectra[0].shape[1] * STFT.hop
        self._held = [x[taken:] for x in self._held]
        for name, spectrum in zip(RECORDINGS, (*spectra, spectra[0] + spectra[1]), strict=True):
            self._landmarks[name].push(np.abs(spectrum))
