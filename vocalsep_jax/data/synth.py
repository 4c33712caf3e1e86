"""The built-in songs: generated music with a singing voice, so that everything runs with no download.

The voice is a source-filter model: a band-limited glottal pulse train with vibrato, glides and jitter,
plus aspiration, shaped by vowel formants that move from syllable to syllable; consonants are shaped
noise and closures; phrases begin with a breath and end in a rest. The accompaniment plays drums, bass,
chords and a melodic instrument in the song's key and tempo. Both are stereo, with reverberation.

A song is a function of (seed, split, index): the same numbers give the same samples, and splits never
share one. Nothing here is meant to fool a listener; it is meant to have the cues that tell a voice from
instruments: harmonics that move together, formants, consonants, breath.

Axis letters: `S` samples, `F` frequency bins, `N` frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vocalsep_jax import audio
from vocalsep_jax.data.songs import SPLITS, Library, Song, Stems
from vocalsep_jax.spectral import Stft

VERSION = 1
"""Part of every built-in song's fingerprint; raise it whenever the sound changes."""

_RATE = 44_100
_FILTER_STFT = Stft(1024, 512)

# Formant frequencies and bandwidths in Hz of sung vowels, after the averages of Peterson & Barney
# (1952) for F1-F3; F4 and F5 are those of an adult male vocal tract, scaled with the singer.
_VOWELS = {
    "a": (710, 1100, 2540, 3500, 4500),
    "e": (550, 1770, 2490, 3500, 4500),
    "i": (290, 2250, 3000, 3600, 4600),
    "o": (570, 840, 2410, 3400, 4500),
    "u": (310, 870, 2240, 3300, 4400),
    "ae": (690, 1660, 2490, 3500, 4500),
    "er": (490, 1350, 1690, 3300, 4400),
}
_BANDWIDTHS = np.array((70.0, 90.0, 130.0, 220.0, 300.0))
_FORMANT_GAINS = np.array((1.0, 0.7, 0.45, 0.3, 0.2))

# Consonants: (kind, centre of the noise in Hz, its width in octaves, seconds, loudness of the noise).
_CONSONANTS = (
    ("none", 0.0, 0.0, 0.02, 0.0),
    ("fricative", 7000.0, 0.7, 0.11, 0.5),  # s
    ("fricative", 3800.0, 0.8, 0.10, 0.45),  # sh
    ("fricative", 5500.0, 1.8, 0.08, 0.15),  # f
    ("plosive", 4500.0, 1.2, 0.07, 0.7),  # t
    ("plosive", 1900.0, 1.0, 0.08, 0.6),  # k
    ("plosive", 900.0, 1.5, 0.06, 0.5),  # p
    ("nasal", 0.0, 0.0, 0.07, 0.0),  # m, n
)

_MAJOR = np.array((0, 2, 4, 5, 7, 9, 11))
_MINOR = np.array((0, 2, 3, 5, 7, 8, 10))
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (0, 2, 3, 4), (5, 4, 3, 4))


def builtin_library(
    *, train_songs: int, valid_songs: int, test_songs: int, seconds: float, seed: int
) -> Library:
    """Built-in songs as a library, generated when they are loaded."""
    counts = dict(zip(SPLITS, (train_songs, valid_songs, test_songs), strict=True))
    return Library(
        source="the built-in songs",
        splits={
            split: tuple(builtin_song(seed, split, n, seconds) for n in range(count))
            for split, count in counts.items()
        },
        validation_choice="generated from seeds of their own",
    )


def builtin_song(seed: int, split: str, index: int, seconds: float) -> Song:
    """Song `index` of `split` as something to load."""
    return Song(
        name=f"Built-in - {split} {index + 1:02d}",
        load=lambda rate: generate(seed, split, index, seconds, rate),
        fingerprint=f"synth {VERSION} {seed} {split} {index} {seconds:g}",
    )


def generate(seed: int, split: str, index: int, seconds: float, rate: int = _RATE) -> Stems:
    """Generate a song.

    Args:
      seed: any integer at least 0.
      split: one of `SPLITS`; the splits' songs are drawn from disjoint seeds.
      index: which song of the split.
      seconds: length, at least 1.
      rate: sample rate in Hz; the song is made at 44.1 kHz and resampled.

    Returns:
      Stems whose voice lies about 3 dB below the accompaniment, peaks of the mixture under 0.95.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    samples = round(seconds * _RATE)
    score = _Score.compose(rng, seconds)
    vocals = _sing(rng, score, samples)
    accompaniment = _play(rng, score, samples)
    level = 10 ** ((-3.0 + rng.uniform(-1.5, 1.5)) / 20)
    vocals *= level * _rms(accompaniment) / max(_rms(vocals), 1e-9)
    gain = rng.uniform(0.5, 0.95) / np.abs(vocals + accompaniment).max()
    stems = [audio.resample((x * gain).astype(np.float32), _RATE, rate) for x in (vocals, accompaniment)]
    return Stems(*stems)


@dataclass(frozen=True)
class _Note:
    start: float  # seconds
    duration: float
    pitch: float  # MIDI note number


@dataclass(frozen=True)
class _Score:
    """What voice and instruments agree on."""

    beat: float  # seconds
    chords: list[tuple[float, np.ndarray]]  # start of each bar, MIDI pitches of its triad
    scale: np.ndarray  # MIDI pitches from the bottom of the range upwards
    phrases: list[list[_Note]]  # the sung melody
    seconds: float

    @classmethod
    def compose(cls, rng: np.random.Generator, seconds: float) -> _Score:
        beat = 60.0 / rng.uniform(76, 144)
        tonic = int(rng.integers(48, 60))
        mode = _MAJOR if rng.random() < 0.55 else _MINOR
        scale = np.concatenate([tonic + 12 * octave + mode for octave in range(-2, 4)])
        root = 14  # index of the tonic in `scale`
        progressions = [_PROGRESSIONS[i] for i in rng.permutation(len(_PROGRESSIONS))[:2]]
        bars = int(np.ceil(seconds / (4 * beat)))
        chords = []
        for bar in range(bars):
            degree = progressions[(bar // 8) % 2][bar % 4]
            chords.append((bar * 4 * beat, scale[root + degree + np.array((0, 2, 4))]))
        low = int(np.searchsorted(scale, rng.integers(48, 64)))  # the singer's lowest note
        phrases = _melody(rng, scale, chords, low, beat, seconds)
        return cls(beat, chords, scale, phrases, seconds)


def _melody(
    rng: np.random.Generator,
    scale: np.ndarray,
    chords: list[tuple[float, np.ndarray]],
    low: int,
    beat: float,
    seconds: float,
) -> list[list[_Note]]:
    """Phrases of notes: a walk on the scale that lands on chord tones, with rests between."""
    phrases = []
    time = 4 * beat * (1 if seconds > 24 * beat else 0) + beat * rng.integers(0, 3)
    position = low + int(rng.integers(2, 7))
    while time < seconds - beat:
        notes, end = [], min(seconds - 0.1, time + beat * rng.choice((5.0, 6.0, 7.0, 10.0)))
        while time < end - 0.1:
            length = min(beat * rng.choice((0.5, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0)), end - time)
            position += int(rng.choice((-3, -2, -1, -1, 0, 1, 1, 2, 4)))
            position = int(np.clip(position, low, low + 9))
            if length >= beat and rng.random() < 0.7:  # long notes on chord tones
                triad = chords[min(int(time / (4 * beat)), len(chords) - 1)][1] % 12
                near = sorted(range(-2, 3), key=abs)
                position += next((d for d in near if scale[position + d] % 12 in triad), 0)
            notes.append(_Note(time, length, float(scale[position])))
            time += length
        phrases.append(notes)
        rest = rng.choice((1.0, 2.0, 2.0, 3.0)) + (8.0 if rng.random() < 0.12 else 0.0)
        time = np.ceil(time / beat) * beat + rest * beat
    return phrases


# --- the voice -----------------------------------------------------------------------------------


def _sing(rng: np.random.Generator, score: _Score, samples: int) -> np.ndarray:
    """The vocal stem, float64 `[S, 2]`."""
    singer = {
        "tract": rng.uniform(0.92, 1.22),  # scales all formants: adult male to female or child
        "tilt": rng.uniform(300.0, 900.0),
        "breath": rng.uniform(0.003, 0.03),
        "vibrato": rng.uniform(4.8, 6.4),
        "depth": rng.uniform(0.15, 0.6),
        "consonants": rng.uniform(0.6, 0.95),
    }
    lead = _voice(rng, singer, score.phrases, samples, transpose=0.0)
    stereo = np.stack([lead, lead], axis=1)
    if rng.random() < 0.5:  # a second take, wide, or a harmony
        interval = float(rng.choice((0.0, 0.0, 3.0, 7.0, -12.0)))
        double = _voice(rng, singer, score.phrases, samples, transpose=interval)
        side = rng.uniform(0.2, 0.8)
        level = rng.uniform(0.25, 0.6)
        stereo += level * np.stack([double * side, double * (1 - side)], axis=1)
    if rng.random() < 0.4:  # echo in time
        delay = round(score.beat * rng.choice((0.5, 0.75, 1.0)) * _RATE)
        if delay < samples:
            stereo[delay:] += rng.uniform(0.1, 0.3) * stereo[:-delay, ::-1]
    return _reverberate(rng, stereo, seconds=rng.uniform(0.5, 2.0), wet=rng.uniform(0.05, 0.35))


def _voice(
    rng: np.random.Generator,
    singer: dict[str, float],
    phrases: list[list[_Note]],
    samples: int,
    transpose: float,
) -> np.ndarray:
    """One take of the melody, float32 `[S]`."""
    stft, step = _FILTER_STFT, _FILTER_STFT.hop
    frames = stft.frames(samples)
    # Frame n of `Stft.analyse` is centred n_fft / 2 samples before sample n * hop.
    times = (np.arange(frames) * step - stft.n_fft / 2) / _RATE
    frequency = np.linspace(0, _RATE / 2, stft.bins)

    pitch = np.full(frames, np.nan)
    voiced = np.zeros(frames)  # loudness of the glottal source
    noise = np.zeros((frames, 3))  # centre in Hz, width in octaves, loudness
    formants = np.zeros((frames, 5))
    formants[:] = _VOWELS["a"]
    nasal = np.zeros(frames)
    vowels = list(_VOWELS)

    for phrase in phrases:
        onset = phrase[0].start
        breath = (times > onset - 0.35) & (times < onset - 0.06)
        rise = np.sin(np.pi * (times[breath] - (onset - 0.35)) / 0.29)
        noise[breath] = np.stack(
            [np.full(rise.size, 2600.0), np.full(rise.size, 2.0), singer["breath"] * 0.7 * rise], axis=1
        )
        strength = rng.uniform(0.6, 1.0)
        for number, note in enumerate(phrase):
            last = number == len(phrase) - 1
            inside = (times >= note.start) & (times < note.start + note.duration)
            scoop = rng.uniform(0, 2.5) if number == 0 or rng.random() < 0.4 else 0.0
            fall = rng.uniform(0, 4) if last and rng.random() < 0.5 else 0.0
            since, left = times[inside] - note.start, note.start + note.duration - times[inside]
            pitch[inside] = (
                note.pitch + transpose - scoop * np.exp(-since / 0.06) - fall * np.exp(-left / 0.08)
            )
            vowel = np.array(_VOWELS[vowels[rng.integers(len(vowels))]], float)
            glide = np.array(_VOWELS[vowels[rng.integers(len(vowels))]], float)
            along = np.clip((times[inside] - note.start) / note.duration, 0, 1)[:, None]
            diphthong = rng.uniform(0.4, 1.0) if rng.random() < 0.6 else 0.0
            formants[inside] = vowel + diphthong * along**2 * (glide - vowel)

            kind, centre, width, length, loudness = _CONSONANTS[
                rng.integers(1, len(_CONSONANTS)) if rng.random() < singer["consonants"] else 0
            ]
            length = min(length, 0.4 * note.duration)
            release = 0.18 if last else 0.03
            level = strength * rng.uniform(0.75, 1.0) * (1.15 if number % 2 == 0 else 1.0)
            shape = np.clip(since / 0.03, 0, 1) * np.clip(left / release, 0, 1) ** 1.5
            shape *= np.exp(-0.25 * since / max(note.duration, 0.2))
            if kind == "nasal":
                nasal[inside] = np.clip(1 - (since - length) / 0.03, 0, 1)
                shape *= 1 - 0.5 * nasal[inside]
            elif kind != "none":
                shape *= np.clip((since - length) / 0.025, 0, 1)
                swell = np.sin(np.pi * np.clip(since / (length + 0.02), 0, 1)) ** 0.7
                if kind == "plosive":  # silence, then a burst that dies away
                    after = since - 0.5 * length
                    swell = np.where(after > 0, np.exp(-np.maximum(after, 0) / 0.012), 0.0)
                noise[inside] = np.stack(
                    [
                        np.full(since.size, centre * rng.uniform(0.9, 1.1)),
                        np.full(since.size, width),
                        loudness * level * swell,
                    ],
                    axis=1,
                )
            voiced[inside] = level * shape

    known = ~np.isnan(pitch)
    if not known.any():
        return np.zeros(samples, np.float32)
    pitch = np.interp(times, times[known], pitch[known])
    pitch = _smooth(pitch, 0.05 * _RATE / step)  # portamento
    since_onset = _time_since_change(pitch, times)
    depth = singer["depth"] * np.clip((since_onset - 0.15) / 0.3, 0, 1)
    pitch = pitch + depth * np.sin(2 * np.pi * singer["vibrato"] * times + rng.uniform(0, 6))
    pitch += _smooth(rng.normal(0, 1, frames), 4) * 0.12  # jitter and drift
    pitch += _smooth(rng.normal(0, 1, frames), 60) * 0.8
    voiced *= 1 + 0.5 * _smooth(rng.normal(0, 1, frames), 3)  # shimmer

    f0 = 440.0 * 2 ** ((pitch - 69) / 12)
    seconds = np.arange(samples) / _RATE
    f0_samples = np.interp(seconds, times, f0)
    source = _pulse_train(f0_samples)
    hiss = rng.standard_normal(samples).astype(np.float32)

    formants = np.apply_along_axis(_smooth, 0, formants, 0.035 * _RATE / step) * singer["tract"]
    envelope = _formant_envelope(frequency, formants)
    tilt = 1 / np.sqrt(1 + (frequency / singer["tilt"]) ** 2)
    muffled = 1 / (1 + (frequency / 500.0) ** 2)
    tract = envelope * tilt[:, None]
    tract = tract * (1 - nasal) + 0.6 * muffled[:, None] * nasal
    # Loudness follows the source, not how close a harmonic happens to lie to a formant.
    octave = np.log2(np.maximum(frequency, 20.0))[:, None] - np.log2(np.maximum(noise[:, 0], 20.0))
    consonant = np.exp(-0.5 * (octave / np.maximum(noise[:, 1], 0.1)) ** 2) * noise[:, 2]
    aspiration = envelope * (singer["breath"] * voiced) * np.sqrt(frequency / 4000.0)[:, None]

    spectrum = stft.analyse(source[:, None])[0] * (tract * voiced)
    spectrum += stft.analyse(hiss[:, None])[0] * (0.25 * consonant + aspiration)
    return stft.synthesise(spectrum[None].astype(np.complex64), samples)[:, 0]


def _pulse_train(f0: np.ndarray) -> np.ndarray:
    """Band-limited pulses of unit RMS-like size at `f0` Hz a sample: float32 `[S]`.

    The closed form of sum_k cos(k phase), k = 1..K (Dirichlet's kernel), with as many harmonics as
    stay below 20 kHz at the highest pitch, crossfaded over time between two values of K so that low
    passages have their high harmonics too.
    """
    phase = 2 * np.pi * np.cumsum(f0) / _RATE
    most = np.maximum(20_000.0 / f0, 2.0)
    lower = np.floor(most)
    return (
        (1 - (most - lower)) * _dirichlet(phase, lower - 1) + (most - lower) * _dirichlet(phase, lower)
    ).astype(np.float32) / np.sqrt(most)


def _dirichlet(phase: np.ndarray, count: np.ndarray) -> np.ndarray:
    half = np.sin(phase / 2)
    near = np.abs(half) < 1e-6
    value = 0.5 * (np.sin((count + 0.5) * phase) / np.where(near, 1.0, half) - 1)
    return np.where(near, count, value)


def _formant_envelope(frequency: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Magnitude response of five parallel resonances: `[F]`, `[N, 5]` -> `[F, N]`."""
    f = frequency[:, None, None]
    width = _BANDWIDTHS * (1 + formants / 8000.0)
    resonance = _FORMANT_GAINS * width / np.sqrt((f - formants) ** 2 + width**2)
    return resonance.sum(axis=-1) ** 1.3 + 0.004


def _time_since_change(pitch: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds since the (smoothed) pitch last moved by more than a tenth of a semitone a frame."""
    moving = np.abs(np.gradient(pitch)) > 0.1
    last = np.maximum.accumulate(np.where(moving, times, times[0]))
    return times - last


def _smooth(x: np.ndarray, width: float) -> np.ndarray:
    """Moving average with a Hann kernel of about `width` values (at least 3), edges held."""
    size = 2 * max(1, round(width)) + 1
    kernel = np.hanning(size + 2)[1:-1]
    padded = np.pad(x, size // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


# --- the instruments -----------------------------------------------------------------------------


def _play(rng: np.random.Generator, score: _Score, samples: int) -> np.ndarray:
    """The accompaniment, float64 `[S, 2]`."""
    out = np.zeros((samples, 2))
    parts: list[tuple[Callable[..., None], float]] = [
        (_drums, rng.uniform(0.7, 1.1)),
        (_bass, rng.uniform(0.6, 1.0)),
        (_chords, rng.uniform(0.5, 0.9)),
        (_lead, rng.uniform(0.2, 0.55)),
    ]
    for part, level in parts:
        stem = np.zeros((samples, 2))
        part(rng, score, stem)
        out += level * stem / max(_rms(stem), 1e-9)
    return _reverberate(rng, out, seconds=rng.uniform(0.3, 1.2), wet=rng.uniform(0.03, 0.15))


def _add(stem: np.ndarray, sound: np.ndarray, start: float, pan: float = 0.5) -> None:
    """Mix `sound` `[n]` or `[n, 2]` into `stem` at `start` seconds, cut at the end."""
    first = round(start * _RATE)
    length = min(len(sound), len(stem) - first)
    if first < 0 or length <= 0:
        return
    if sound.ndim == 1:
        sound = sound[:, None] * np.array((np.cos(pan * np.pi / 2), np.sin(pan * np.pi / 2)))
    stem[first : first + length] += sound[:length]


def _drums(rng: np.random.Generator, score: _Score, stem: np.ndarray) -> None:
    t = np.arange(round(0.5 * _RATE)) / _RATE
    drop = rng.uniform(80, 160)
    kick = np.sin(2 * np.pi * (rng.uniform(42, 60) * t + drop * 0.03 * (1 - np.exp(-t / 0.03))))
    kick *= np.exp(-t / rng.uniform(0.08, 0.2))
    kick[:200] += rng.normal(0, 0.3, 200) * np.linspace(1, 0, 200)
    rattle = _band_noise(rng, t.size, rng.uniform(1500, 4000), 1.6)
    snare = 0.7 * rattle * np.exp(-t / rng.uniform(0.06, 0.16))
    snare += 0.5 * np.sin(2 * np.pi * rng.uniform(170, 240) * t) * np.exp(-t / 0.07)
    tick = _band_noise(rng, t.size, rng.uniform(8000, 11000), 0.5)
    closed = 0.35 * tick * np.exp(-t / rng.uniform(0.015, 0.05))
    opened = 0.3 * tick * np.exp(-t / rng.uniform(0.12, 0.3))
    clap = 0.6 * _band_noise(rng, t.size, 1300, 0.8) * np.exp(-t / 0.09)
    kicks = {0, 8} | {int(k) for k in rng.choice((3, 6, 7, 10, 11, 14), rng.integers(0, 3))}
    if rng.random() < 0.35:
        kicks = {0, 4, 8, 12}
    every = int(rng.choice((1, 2, 2, 4)))
    back = snare if rng.random() < 0.75 else clap
    pan = rng.uniform(0.35, 0.65)
    sixteenth = score.beat / 4
    for bar, (start, _) in enumerate(score.chords):
        for k in range(16):
            time = start + k * sixteenth + rng.normal(0, 0.002)
            if k in kicks:
                _add(stem, kick * rng.uniform(0.85, 1), time)
            if k in (4, 12) or (bar % 4 == 3 and k >= 14 and rng.random() < 0.6):
                _add(stem, back * rng.uniform(0.8, 1), time)
            if k % every == 0:
                _add(stem, closed * rng.uniform(0.5, 1), time, pan)
            elif k == 14 and bar % 2:
                _add(stem, opened, time, pan)


def _bass(rng: np.random.Generator, score: _Score, stem: np.ndarray) -> None:
    voice = _Timbre.draw(rng, harmonics=12, brightness=(1.2, 2.2), decay=(0.4, 3.0))
    pattern = rng.choice((0.5, 1.0, 2.0))
    for start, triad in score.chords:
        root = triad[0] - 12 * (1 + (triad[0] > 52))
        for k in range(int(4 / pattern)):
            pitch = root + (12 if rng.random() < 0.1 else 7 if rng.random() < 0.12 else 0)
            length = 0.9 * pattern * score.beat
            _add(stem, voice.note(float(pitch), round(length, 3)), start + k * pattern * score.beat)


def _chords(rng: np.random.Generator, score: _Score, stem: np.ndarray) -> None:
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
            for voice_number, pitch in enumerate((*triad, triad[0] + 12)):
                pan = 0.5 + spread * (voice_number - 1.5) / 1.5
                _add(stem, voice.note(float(pitch + 12), length), start + beats * score.beat, pan)


def _lead(rng: np.random.Generator, score: _Score, stem: np.ndarray) -> None:
    """A melodic instrument: arpeggios, or a tune with vibrato that resembles a voice most."""
    arpeggio = rng.random() < 0.5
    voice = _Timbre.draw(
        rng, harmonics=16, brightness=(0.8, 2.0), decay=(0.15, 0.6) if arpeggio else (1.0, 4.0)
    )
    pan = rng.uniform(0.2, 0.8)
    step = score.beat / (4 if arpeggio and rng.random() < 0.5 else 2)
    figure = rng.integers(0, 4, 8)
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
    """An instrument: fixed harmonic weights, each harmonic decaying faster the higher it is."""

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
        """A note, `[n]`; `pitch` a MIDI number, `seconds` until it is damped. Made once."""
        if (pitch, seconds) not in self._notes:
            self._notes[pitch, seconds] = self._make_note(pitch, seconds)
        return self._notes[pitch, seconds]

    def _make_note(self, pitch: float, seconds: float) -> np.ndarray:
        t = np.arange(round((seconds + 0.06) * _RATE)) / _RATE
        out = np.zeros(t.size)
        wobble = 0.001 * self.vibrato * np.sin(2 * np.pi * 5.3 * t) * np.clip(t / 0.4, 0, 1)
        for detune in (-self.detune, self.detune) if self.detune else (0.0,):
            f0 = 440.0 * 2 ** ((pitch + detune - 69) / 12)
            # Powers of one rotating phasor: all harmonics for the price of one sine.
            phasor = np.exp(2j * np.pi * f0 * (t + wobble)).astype(np.complex64)
            power = np.ones_like(phasor)
            damping = np.exp(-t / self.decay).astype(np.float32)
            for k, weight in enumerate(self.weights, start=1):
                if k * f0 > 20_000:
                    break
                power = power * phasor
                out += weight * power.imag * damping ** (0.5 + 0.5 * k)
        return out * np.clip(t / self.attack, 0, 1) * np.clip((t[-1] - t) / 0.05, 0, 1)


# --- the room ------------------------------------------------------------------------------------


def _band_noise(rng: np.random.Generator, size: int, centre: float, octaves: float) -> np.ndarray:
    """Noise around `centre` Hz, a Gaussian on a logarithmic frequency axis; about unit RMS."""
    frequency = np.fft.rfftfreq(size, 1 / _RATE)
    octave = np.log2(np.maximum(frequency, 1.0) / centre)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=size)) * np.exp(-0.5 * (octave / octaves) ** 2), size)
    return noise / max(_rms(noise), 1e-9)


def _reverberate(rng: np.random.Generator, x: np.ndarray, seconds: float, wet: float) -> np.ndarray:
    """Add exponentially decaying noise as the room's response; `seconds` to fall by 60 dB."""
    length = round(seconds * _RATE)
    t = np.arange(length) / _RATE
    response = rng.normal(size=(length, 2)) * 10 ** (-3 * t / seconds)[:, None]
    response[: round(0.012 * _RATE)] = 0  # the direct sound comes first
    response = np.stack([_darken(response[:, c]) for c in (0, 1)], axis=1)
    response /= np.sqrt((response**2).sum(axis=0))
    size = 1 << int(np.ceil(np.log2(len(x) + length)))
    spectrum = np.fft.rfft(x, size, axis=0) * np.fft.rfft(response, size, axis=0)
    return x + wet * np.fft.irfft(spectrum, size, axis=0)[: len(x)]


def _darken(x: np.ndarray) -> np.ndarray:
    """Less treble, as air and walls take it."""
    spectrum = np.fft.rfft(x)
    return np.fft.irfft(spectrum / (1 + np.fft.rfftfreq(x.size, 1 / _RATE) / 3000.0), x.size)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
