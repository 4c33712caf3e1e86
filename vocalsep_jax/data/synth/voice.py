"""The singing voice of the built-in songs: a glottal source and noise, filtered frame by frame.

The random numbers of a note are drawn in a fixed order: pitch, vowel, consonant, loudness. Drawn in another
order they would make another song.

Axis letters: `S` samples, `F` frequency bins, `N` frames of the STFT in which sound is filtered, `n` those
of a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.synth.score import Note, Score
from vocalsep_jax.data.synth.sound import RATE, hertz, reverberate

_STFT = Stft(1024, 512)

# Formant frequencies of sung vowels in Hz. F1 to F3 follow the averages of Peterson & Barney (1952). F4 and
# F5 are those of an adult male vocal tract. All are scaled to the singer.
_VOWELS = np.array(
    (
        (710.0, 1100.0, 2540.0, 3500.0, 4500.0),  # a
        (550.0, 1770.0, 2490.0, 3500.0, 4500.0),  # e
        (290.0, 2250.0, 3000.0, 3600.0, 4600.0),  # i
        (570.0, 840.0, 2410.0, 3400.0, 4500.0),  # o
        (310.0, 870.0, 2240.0, 3300.0, 4400.0),  # u
        (690.0, 1660.0, 2490.0, 3500.0, 4500.0),  # ae
        (490.0, 1350.0, 1690.0, 3300.0, 4400.0),  # er
    )
)
_BANDWIDTHS = np.array((70.0, 90.0, 130.0, 220.0, 300.0))  # of the five formants, in Hz
_FORMANT_GAINS = np.array((1.0, 0.7, 0.45, 0.3, 0.2))


class _Consonant(NamedTuple):
    """How a note begins.

    Attributes:
      kind: "fricative", "plosive" or "nasal".
      centre, octaves: middle of the noise in Hz and standard deviation of its spectrum; 0 for no noise.
      seconds: length.
      loudness: of the noise.
    """

    kind: str
    centre: float
    octaves: float
    seconds: float
    loudness: float


_CONSONANTS = (
    _Consonant("fricative", 7000.0, 0.7, 0.11, 0.5),  # s
    _Consonant("fricative", 3800.0, 0.8, 0.10, 0.45),  # sh
    _Consonant("fricative", 5500.0, 1.8, 0.08, 0.15),  # f
    _Consonant("plosive", 4500.0, 1.2, 0.07, 0.7),  # t
    _Consonant("plosive", 1900.0, 1.0, 0.08, 0.6),  # k
    _Consonant("plosive", 900.0, 1.5, 0.06, 0.5),  # p
    _Consonant("nasal", 0.0, 0.0, 0.07, 0.0),  # m, n
)


def sing(rng: np.random.Generator, score: Score, samples: int) -> np.ndarray:
    """The vocal stem of a song, float64 `[S, 2]` with `S = samples`."""
    singer = _Singer.draw(rng)
    lead = _take(rng, singer, score.phrases, samples, transpose=0.0)
    stereo = np.stack([lead, lead], axis=1)
    if rng.random() < 0.5:  # a second take, in unison or in harmony, panned
        interval = float(rng.choice((0.0, 0.0, 3.0, 7.0, -12.0)))
        double = _take(rng, singer, score.phrases, samples, transpose=interval)
        side = rng.uniform(0.2, 0.8)
        level = rng.uniform(0.25, 0.6)
        stereo += level * np.stack([double * side, double * (1 - side)], axis=1)
    if rng.random() < 0.4:  # an echo in time with the beat
        delay = round(score.beat * rng.choice((0.5, 0.75, 1.0)) * RATE)
        if delay < samples:
            stereo[delay:] += rng.uniform(0.1, 0.3) * stereo[:-delay, ::-1]
    return reverberate(rng, stereo, seconds=rng.uniform(0.5, 2.0), wet=rng.uniform(0.05, 0.35))


@dataclass(frozen=True)
class _Singer:
    """What one singer's voice keeps through a song.

    Attributes:
      tract: factor of all formants: from an adult man's vocal tract to a woman's or a child's.
      tilt: Hz above which the glottal source falls by 6 dB an octave.
      breath: loudness of breath and aspiration.
      vibrato: Hz.
      depth: of the vibrato, in semitones.
      consonants: probability that a note begins with a consonant.
    """

    tract: float
    tilt: float
    breath: float
    vibrato: float
    depth: float
    consonants: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Singer:
        """A random singer."""
        return cls(
            tract=rng.uniform(0.92, 1.22),
            tilt=rng.uniform(300.0, 900.0),
            breath=rng.uniform(0.003, 0.03),
            vibrato=rng.uniform(4.8, 6.4),
            depth=rng.uniform(0.15, 0.6),
            consonants=rng.uniform(0.6, 0.95),
        )


@dataclass(frozen=True)
class _Controls:
    """What the voice does in each frame; all arrays are float64.

    Attributes:
      times: `[N]`, seconds, the frames' centres.
      pitch: `[N]`, MIDI note numbers; NaN where no note is sung.
      loudness: `[N]`, of the glottal source.
      formants: `[N, 5]`, Hz, before they are scaled to the singer.
      nasal: `[N]`, 0 to 1, from the sound of the mouth to that of the nose.
      noise_centre: `[N]`, Hz, middle of the noise of consonants and breaths.
      noise_octaves: `[N]`, standard deviation of that noise's spectrum.
      noise_loudness: `[N]`.
    """

    times: np.ndarray
    pitch: np.ndarray
    loudness: np.ndarray
    formants: np.ndarray
    nasal: np.ndarray
    noise_centre: np.ndarray
    noise_octaves: np.ndarray
    noise_loudness: np.ndarray

    @classmethod
    def at_rest(cls, frames: int) -> _Controls:
        """Silence."""
        # Frame n of `Stft.analyse` is centred n_fft / 2 samples before sample n * hop.
        return cls(
            times=(np.arange(frames) * _STFT.hop - _STFT.n_fft / 2) / RATE,
            pitch=np.full(frames, np.nan),
            loudness=np.zeros(frames),
            formants=np.tile(_VOWELS[0], (frames, 1)),
            nasal=np.zeros(frames),
            noise_centre=np.zeros(frames),
            noise_octaves=np.zeros(frames),
            noise_loudness=np.zeros(frames),
        )


class _Sung(NamedTuple):
    """A note and the frames it lies in.

    Attributes:
      note: the note.
      number: its number in its phrase, from 0.
      last: whether the phrase ends with it.
      frames: bool `[N]`, which frames the note lies in.
      since: float64 `[n]`, seconds since the note began, in those frames.
      left: float64 `[n]`, seconds until it ends.
    """

    note: Note
    number: int
    last: bool
    frames: np.ndarray
    since: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, phrase: list[Note], number: int, times: np.ndarray) -> _Sung:
        """Note `number` of a phrase in frames at `times`."""
        note = phrase[number]
        frames = (times >= note.start) & (times < note.start + note.duration)
        since, left = times[frames] - note.start, note.start + note.duration - times[frames]
        return cls(note, number, number == len(phrase) - 1, frames, since, left)


def _take(
    rng: np.random.Generator,
    singer: _Singer,
    phrases: list[list[Note]],
    samples: int,
    transpose: float,
) -> np.ndarray:
    """One take of the melody, `transpose` semitones higher than written: float32 `[S]`."""
    frames = _STFT.frames(samples)
    controls = _Controls.at_rest(frames)
    for phrase in phrases:
        _breathe_in(controls, singer, phrase[0].start)
        strength = rng.uniform(0.6, 1.0)
        for number in range(len(phrase)):
            sung = _Sung.of(phrase, number, controls.times)
            _set_pitch(rng, controls, sung, transpose)
            _set_vowel(rng, controls, sung)
            _set_loudness(rng, controls, sung, singer, strength)
    if np.isnan(controls.pitch).all():
        return np.zeros(samples, np.float32)

    pitch = _sung_pitch(rng, controls, singer)
    loudness = controls.loudness * (1 + 0.5 * _smooth(rng.normal(0, 1, frames), 3))  # shimmer
    seconds = np.arange(samples) / RATE
    source = _pulse_train(np.interp(seconds, controls.times, hertz(pitch)))
    hiss = rng.standard_normal(samples).astype(np.float32)

    tract, noise = _filters(controls, singer, loudness)
    spectrum = _STFT.analyse(source[:, None])[0] * tract
    spectrum += _STFT.analyse(hiss[:, None])[0] * noise
    return _STFT.synthesise(spectrum[None].astype(np.complex64), samples)[:, 0]


def _breathe_in(controls: _Controls, singer: _Singer, onset: float) -> None:
    """Set the noise of the breath before a phrase that begins at `onset` seconds."""
    breath = (controls.times > onset - 0.35) & (controls.times < onset - 0.06)
    rise = np.sin(np.pi * (controls.times[breath] - (onset - 0.35)) / 0.29)
    controls.noise_centre[breath] = 2600.0
    controls.noise_octaves[breath] = 2.0
    controls.noise_loudness[breath] = singer.breath * 0.7 * rise


def _set_pitch(rng: np.random.Generator, controls: _Controls, sung: _Sung, transpose: float) -> None:
    """Set the pitch of a note, which may begin with a scoop from below and end in a fall."""
    scoop = rng.uniform(0, 2.5) if sung.number == 0 or rng.random() < 0.4 else 0.0
    fall = rng.uniform(0, 4) if sung.last and rng.random() < 0.5 else 0.0
    controls.pitch[sung.frames] = (
        sung.note.pitch + transpose - scoop * np.exp(-sung.since / 0.06) - fall * np.exp(-sung.left / 0.08)
    )


def _set_vowel(rng: np.random.Generator, controls: _Controls, sung: _Sung) -> None:
    """Set the formants of a note to a vowel, which may glide to another."""
    vowel = _VOWELS[rng.integers(len(_VOWELS))]
    glide = _VOWELS[rng.integers(len(_VOWELS))]
    along = np.clip(sung.since / sung.note.duration, 0, 1)[:, None]
    diphthong = rng.uniform(0.4, 1.0) if rng.random() < 0.6 else 0.0
    controls.formants[sung.frames] = vowel + diphthong * along**2 * (glide - vowel)


def _set_loudness(
    rng: np.random.Generator, controls: _Controls, sung: _Sung, singer: _Singer, strength: float
) -> None:
    """Set the loudness of a note, and the consonant that it may begin with.

    `strength` is the loudness of the phrase.
    """
    consonant = _CONSONANTS[rng.integers(len(_CONSONANTS))] if rng.random() < singer.consonants else None
    release = 0.18 if sung.last else 0.03
    level = strength * rng.uniform(0.75, 1.0) * (1.15 if sung.number % 2 == 0 else 1.0)
    shape = np.clip(sung.since / 0.03, 0, 1) * np.clip(sung.left / release, 0, 1) ** 1.5
    shape *= np.exp(-0.25 * sung.since / max(sung.note.duration, 0.2))
    if consonant is not None:
        shape *= _articulate(rng, controls, sung, consonant, level)
    controls.loudness[sung.frames] = level * shape


def _articulate(
    rng: np.random.Generator, controls: _Controls, sung: _Sung, consonant: _Consonant, level: float
) -> np.ndarray:
    """Set the noise or the nasal sound of a consonant, and give what it leaves of the voice.

    The result is a factor of the note's loudness, float64 `[n]`, 0 to 1.
    """
    since, length = sung.since, min(consonant.seconds, 0.4 * sung.note.duration)
    if consonant.kind == "nasal":
        nasal = np.clip(1 - (since - length) / 0.03, 0, 1)
        controls.nasal[sung.frames] = nasal
        return 1 - 0.5 * nasal
    swell = np.sin(np.pi * np.clip(since / (length + 0.02), 0, 1)) ** 0.7
    if consonant.kind == "plosive":  # silence, then a burst that dies away
        after = since - 0.5 * length
        swell = np.where(after > 0, np.exp(-np.maximum(after, 0) / 0.012), 0.0)
    controls.noise_centre[sung.frames] = consonant.centre * rng.uniform(0.9, 1.1)
    controls.noise_octaves[sung.frames] = consonant.octaves
    controls.noise_loudness[sung.frames] = consonant.loudness * level * swell
    return np.clip((since - length) / 0.025, 0, 1)


def _sung_pitch(rng: np.random.Generator, controls: _Controls, singer: _Singer) -> np.ndarray:
    """The pitch with glides, vibrato, jitter and drift, float64 `[N]`. It goes on through the rests."""
    times = controls.times
    known = ~np.isnan(controls.pitch)
    pitch = np.interp(times, times[known], controls.pitch[known])
    pitch = _smooth(pitch, 0.05 * RATE / _STFT.hop)  # portamento
    held = _time_since_change(pitch, times)
    depth = singer.depth * np.clip((held - 0.15) / 0.3, 0, 1)
    pitch = pitch + depth * np.sin(2 * np.pi * singer.vibrato * times + rng.uniform(0, 6))
    pitch += _smooth(rng.normal(0, 1, times.size), 4) * 0.12  # jitter
    pitch += _smooth(rng.normal(0, 1, times.size), 60) * 0.8  # drift
    return pitch


def _filters(controls: _Controls, singer: _Singer, loudness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The magnitude responses for the glottal source and for noise, float64 `[F, N]` each.

    `loudness` is that of the source, `[N]`.
    """
    frequency = np.linspace(0, RATE / 2, _STFT.bins)
    formants = np.apply_along_axis(_smooth, 0, controls.formants, 0.035 * RATE / _STFT.hop) * singer.tract
    envelope = _formant_envelope(frequency, formants)
    tilt = 1 / np.sqrt(1 + (frequency / singer.tilt) ** 2)
    muffled = 1 / (1 + (frequency / 500.0) ** 2)
    tract = envelope * tilt[:, None]
    tract = tract * (1 - controls.nasal) + 0.6 * muffled[:, None] * controls.nasal

    centre = np.log2(np.maximum(controls.noise_centre, 20.0))
    octave = np.log2(np.maximum(frequency, 20.0))[:, None] - centre
    consonant = np.exp(-0.5 * (octave / np.maximum(controls.noise_octaves, 0.1)) ** 2)
    consonant = consonant * controls.noise_loudness
    aspiration = envelope * (singer.breath * loudness) * np.sqrt(frequency / 4000.0)[:, None]
    return tract * loudness, 0.25 * consonant + aspiration


def _pulse_train(f0: np.ndarray) -> np.ndarray:
    """Band-limited pulses of about the same RMS at every pitch: `f0` in Hz at each sample -> float64 `[S]`.

    A pulse train is the sum of cos(k phase) for k = 1..K. It is computed in closed form (Dirichlet's
    kernel). K follows the pitch, so that the harmonics reach up to 20 kHz and no further. The sums for
    K - 1 and for K are crossfaded, so that a harmonic comes and goes gradually.
    """
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    most = np.maximum(20_000.0 / f0, 2.0)
    lower = np.floor(most)
    return (
        (1 - (most - lower)) * _dirichlet(phase, lower - 1) + (most - lower) * _dirichlet(phase, lower)
    ).astype(np.float32) / np.sqrt(most)


def _dirichlet(phase: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The sum of cos(k phase) for k = 1..count, at each sample: two `[S]` -> `[S]`."""
    half = np.sin(phase / 2)
    near = np.abs(half) < 1e-6
    value = 0.5 * (np.sin((count + 0.5) * phase) / np.where(near, 1.0, half) - 1)
    return np.where(near, count, value)


def _formant_envelope(frequency: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Magnitude response of five parallel resonances: `[F]` and `[N, 5]`, both in Hz -> `[F, N]`."""
    f = frequency[:, None, None]
    width = _BANDWIDTHS * (1 + formants / 8000.0)
    resonance = _FORMANT_GAINS * width / np.sqrt((f - formants) ** 2 + width**2)
    return resonance.sum(axis=-1) ** 1.3 + 0.004


def _time_since_change(pitch: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds since the pitch last moved by more than a tenth of a semitone a frame: two `[N]` -> `[N]`."""
    moving = np.abs(np.gradient(pitch)) > 0.1
    last = np.maximum.accumulate(np.where(moving, times, times[0]))
    return times - last


def _smooth(x: np.ndarray, width: float) -> np.ndarray:
    """Moving average of `[N]` with a Hann kernel that is about `width` values wide at half its height.

    The kernel is at least 3 values long. Beyond the ends, `x` is continued by its first and last value.
    """
    size = 2 * max(1, round(width)) + 1
    kernel = np.hanning(size + 2)[1:-1]
    padded = np.pad(x, size // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
