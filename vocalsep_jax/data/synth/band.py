"""The accompaniment of the built-in songs: drums, bass, chords and a melodic instrument.

A part is a function that adds its notes to `stem`, float64 `[S, 2]`, left and right.

Axis letters: `S` samples of the song, `n` samples of one sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vocalsep_jax.data.synth.score import Score
from vocalsep_jax.data.synth.sound import RATE, band_noise, hertz, reverberate, rms


def play(rng: np.random.Generator, score: Score, samples: int) -> np.ndarray:
    """The accompaniment of a song, float64 `[S, 2]` with `S = samples`."""
    out = np.zeros((samples, 2))
    parts: list[tuple[Callable[[np.random.Generator, Score, np.ndarray], None], float]] = [
        (_drums, rng.uniform(0.7, 1.1)),
        (_bass, rng.uniform(0.6, 1.0)),
        (_chords, rng.uniform(0.5, 0.9)),
        (_lead, rng.uniform(0.2, 0.55)),
    ]
    for part, level in parts:
        stem = np.zeros((samples, 2))
        part(rng, score, stem)
        out += level * stem / max(rms(stem), 1e-9)
    return reverberate(rng, out, seconds=rng.uniform(0.3, 1.2), wet=rng.uniform(0.03, 0.15))


def drum_solo(rng: np.random.Generator, score: Score, samples: int) -> np.ndarray:
    """The drums of a song alone, float64 `[S, 2]` with `S = samples`, peak at half of full scale."""
    stem = np.zeros((samples, 2))
    _drums(rng, score, stem)
    return 0.5 / max(np.abs(stem).max(), 1e-9) * stem


def _add(stem: np.ndarray, sound: np.ndarray, start: float, pan: float = 0.5) -> None:
    """Add a sound to a stem, as far as the stem goes.

    Args:
      stem: `[S, 2]`, changed in place.
      sound: `[n]`.
      start: seconds; a sound that starts before the song is left out.
      pan: from 0, left, to 1, right.
    """
    first = round(start * RATE)
    length = min(len(sound), len(stem) - first)
    if first < 0 or length <= 0:
        return
    stereo = sound[:, None] * np.array((np.cos(pan * np.pi / 2), np.sin(pan * np.pi / 2)))
    stem[first : first + length] += stereo[:length]


class _DrumKit(NamedTuple):
    """The sounds of the drums, float64 `[n]` each."""

    kick: np.ndarray
    snare: np.ndarray
    closed_hat: np.ndarray
    open_hat: np.ndarray
    clap: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _DrumKit:
        """A random kit."""
        t = np.arange(round(0.5 * RATE)) / RATE
        drop = rng.uniform(80, 160)
        kick = np.sin(2 * np.pi * (rng.uniform(42, 60) * t + drop * 0.03 * (1 - np.exp(-t / 0.03))))
        kick *= np.exp(-t / rng.uniform(0.08, 0.2))
        kick[:200] += rng.normal(0, 0.3, 200) * np.linspace(1, 0, 200)
        rattle = band_noise(rng, t.size, rng.uniform(1500, 4000), 1.6)
        snare = 0.7 * rattle * np.exp(-t / rng.uniform(0.06, 0.16))
        snare += 0.5 * np.sin(2 * np.pi * rng.uniform(170, 240) * t) * np.exp(-t / 0.07)
        tick = band_noise(rng, t.size, rng.uniform(8000, 11000), 0.5)
        closed_hat = 0.35 * tick * np.exp(-t / rng.uniform(0.015, 0.05))
        open_hat = 0.3 * tick * np.exp(-t / rng.uniform(0.12, 0.3))
        clap = 0.6 * band_noise(rng, t.size, 1300, 0.8) * np.exp(-t / 0.09)
        return cls(kick, snare, closed_hat, open_hat, clap)


def _drums(rng: np.random.Generator, score: Score, stem: np.ndarray) -> None:
    """A pattern of sixteenths that repeats in every bar. Every fourth bar may end in a fill."""
    kit = _DrumKit.draw(rng)
    kicks = {0, 8} | {int(k) for k in rng.choice((3, 6, 7, 10, 11, 14), rng.integers(0, 3))}
    if rng.random() < 0.35:
        kicks = {0, 4, 8, 12}
    every = int(rng.choice((1, 2, 2, 4)))  # sixteenths from one hi-hat to the next
    backbeat = kit.snare if rng.random() < 0.75 else kit.clap
    pan = rng.uniform(0.35, 0.65)
    sixteenth = score.beat / 4
    for bar, (start, _) in enumerate(score.chords):
        for k in range(16):
            time = start + k * sixteenth + rng.normal(0, 0.002)
            if k in kicks:
                _add(stem, kit.kick * rng.uniform(0.85, 1), time)
            if k in (4, 12) or (bar % 4 == 3 and k >= 14 and rng.random() < 0.6):
                _add(stem, backbeat * rng.uniform(0.8, 1), time)
            if k % every == 0:
                _add(stem, kit.closed_hat * rng.uniform(0.5, 1), time, pan)
            elif k == 14 and bar % 2:
                _add(stem, kit.open_hat, time, pan)


def _bass(rng: np.random.Generator, score: Score, stem: np.ndarray) -> None:
    """The root of each chord in equal notes, now and then its octave or its fifth."""
    voice = _Timbre.draw(rng, harmonics=12, brightness=(1.2, 2.2), decay=(0.4, 3.0))
    step = rng.choice((0.5, 1.0, 2.0))  # beats
    for start, triad in score.chords:
        root = triad[0] - 12 * (1 + (triad[0] > 52))
        for k in range(int(4 / step)):
            pitch = root + (12 if rng.random() < 0.1 else 7 if rng.random() < 0.12 else 0)
            length = 0.9 * step * score.beat
            _add(stem, voice.note(float(pitch), round(length, 3)), start + k * step * score.beat)


def _chords(rng: np.random.Generator, score: Score, stem: np.ndarray) -> None:
    """Held pads, or chords struck in a rhythm."""
    held = rng.random() < 0.5
    voice = _Timbre.draw(
        rng, harmonics=24, brightness=(0.9, 1.7), decay=(4.0, 9.0) if held else (0.25, 1.2)
    )
    spread = rng.uniform(0, 0.35)
    rhythm = (0.0,) if held else tuple(np.sort(rng.choice(np.arange(8) / 2, 4, replace=False)))
    for start, triad in score.chords:
        for place, beats in enumerate(rhythm):
            following = (*rhythm, 4.0)[place + 1]
            length = round((following - beats) * score.beat, 3)
            for number, pitch in enumerate((*triad, triad[0] + 12)):
                pan = 0.5 + spread * (number - 1.5) / 1.5
                _add(stem, voice.note(float(pitch + 12), length), start + beats * score.beat, pan)


def _lead(rng: np.random.Generator, score: Score, stem: np.ndarray) -> None:
    """Arpeggios in every bar, or a tune in two bars of four. The tune is what is most like a voice."""
    arpeggio = rng.random() < 0.5
    voice = _Timbre.draw(
        rng, harmonics=16, brightness=(0.8, 2.0), decay=(0.15, 0.6) if arpeggio else (1.0, 4.0)
    )
    pan = rng.uniform(0.2, 0.8)
    step = score.beat / (4 if arpeggio and rng.random() < 0.5 else 2)  # seconds
    figure = rng.integers(0, 4, 8)  # which note of the chord comes when
    for bar, (start, triad) in enumerate(score.chords):
        if not arpeggio and (bar // 2) % 2:
            continue
        time, k = 0.0, 0
        while time < 4 * score.beat - 1e-6:
            length = step if arpeggio else step * float(rng.choice((1, 2, 3)))
            pitch = (*triad, triad[0] + 12)[figure[k % 8]] + (12 if arpeggio else 24)
            _add(stem, voice.note(float(pitch), round(length, 3)), start + time, pan)
            time, k = time + length, k + 1


@dataclass(frozen=True)
class _Timbre:
    """The sound of a pitched instrument. The higher a harmonic, the faster it decays.

    Attributes:
      weights: of the harmonics, from the fundamental on.
      decay: seconds in which the fundamental falls to 1/e.
      attack: seconds.
      detune: semitones; two strings sound, one so much too low and one so much too high. 0 for one string.
      vibrato: milliseconds by which vibrato shifts the wave back and forth.
    """

    weights: tuple[float, ...]
    decay: float
    attack: float
    detune: float
    vibrato: float
    _notes: dict[tuple[float, float], np.ndarray] = field(default_factory=dict)

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        harmonics: int,
        brightness: tuple[float, float],
        decay: tuple[float, float],
    ) -> _Timbre:
        """A random instrument.

        Args:
          rng: random numbers.
          harmonics: number of harmonics.
          brightness: range of the exponent p; harmonic k has a weight of about k ** -p.
          decay: range of the attribute `decay`.
        """
        k = np.arange(1, harmonics + 1)
        weights = k ** -rng.uniform(*brightness) * rng.uniform(0.3, 1.0, harmonics)
        if rng.random() < 0.35:
            weights[1::2] *= 0.1  # hollow, like a square wave or a clarinet
        return cls(
            tuple(weights),
            float(rng.uniform(*decay)),
            float(rng.choice((0.002, 0.008, 0.05))),
            float(rng.choice((0.0, 0.0, 0.08, 0.15))),
            float(rng.choice((0.0, 0.0, 0.25))),
        )

    def note(self, pitch: float, seconds: float) -> np.ndarray:
        """A note, float64 `[n]`; it is made once and kept.

        Args:
          pitch: MIDI note number.
          seconds: time until the note is damped.
        """
        if (pitch, seconds) not in self._notes:
            self._notes[pitch, seconds] = self._make_note(pitch, seconds)
        return self._notes[pitch, seconds]

    def _make_note(self, pitch: float, seconds: float) -> np.ndarray:
        t = np.arange(round((seconds + 0.06) * RATE)) / RATE
        out = np.zeros(t.size)
        wobble = 0.001 * self.vibrato * np.sin(2 * np.pi * 5.3 * t) * np.clip(t / 0.4, 0, 1)
        for detune in (-self.detune, self.detune) if self.detune else (0.0,):
            f0 = hertz(pitch + detune)
            # Harmonic k is the k-th power of the fundamental's phasor: no other sines are computed.
            phasor = np.exp(2j * np.pi * f0 * (t + wobble)).astype(np.complex64)
            power = np.ones_like(phasor)
            damping = np.exp(-t / self.decay).astype(np.float32)
            for k, weight in enumerate(self.weights, start=1):
                if k * f0 > 20_000:
                    break
                power = power * phasor
                out += weight * power.imag * damping ** (0.5 + 0.5 * k)
        return out * np.clip(t / self.attack, 0, 1) * np.clip((t[-1] - t) / 0.05, 0, 1)
