"""The score of a built-in song: what the voice and the instruments agree on.

Pitches are MIDI note numbers: 69 is A at 440 Hz, and 1 is a semitone. Times are seconds from the start of
the song.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# The seven notes of a scale, in semitones above the tonic.
_MAJOR = np.array((0, 2, 4, 5, 7, 9, 11))
_MINOR = np.array((0, 2, 3, 5, 7, 8, 10))

_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (0, 2, 3, 4), (5, 4, 3, 4))
"""The roots of the chords of four bars, in notes of the scale above the tonic."""


class Note(NamedTuple):
    """A sung note.

    Attributes:
      start, duration: seconds.
      pitch: MIDI note number.
    """

    start: float
    duration: float
    pitch: float


class Chord(NamedTuple):
    """The chord of a bar.

    Attributes:
      start: seconds.
      triad: int64 `[3]`, MIDI note numbers from the root upwards.
    """

    start: float
    triad: np.ndarray


@dataclass(frozen=True)
class Score:
    """The tempo, the chords and the melody of a song.

    Attributes:
      beat: seconds; a bar has four beats.
      chords: one for each bar; the last bar may go on beyond the end of the song.
      phrases: the sung melody; there are rests between phrases.
    """

    beat: float
    chords: list[Chord]
    phrases: list[list[Note]]

    @classmethod
    def compose(cls, rng: np.random.Generator, seconds: float) -> Score:
        """A random score for a song of this length."""
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
            chords.append(Chord(bar * 4 * beat, scale[root + degree + np.array((0, 2, 4))]))
        low = int(np.searchsorted(scale, rng.integers(48, 64)))
        return cls(beat, chords, _melody(rng, scale, chords, low, beat, seconds))


def _melody(
    rng: np.random.Generator,
    scale: np.ndarray,
    chords: list[Chord],
    low: int,
    beat: float,
    seconds: float,
) -> list[list[Note]]:
    """Phrases of notes: a random walk on the scale that lands on notes of the chords.

    `scale` holds MIDI note numbers in rising order. `low` is the index of the singer's lowest note in it.
    """
    phrases = []
    time = 4 * beat * (1 if seconds > 24 * beat else 0) + beat * rng.integers(0, 3)
    position = low + int(rng.integers(2, 7))
    while time < seconds - beat:
        notes, end = [], min(seconds - 0.1, time + beat * rng.choice((5.0, 6.0, 7.0, 10.0)))
        while time < end - 0.1:
            length = min(beat * rng.choice((0.5, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0)), end - time)
            position += int(rng.choice((-3, -2, -1, -1, 0, 1, 1, 2, 4)))
            position = int(np.clip(position, low, low + 9))
            if length >= beat and rng.random() < 0.7:  # to the nearest note of the chord
                triad = chords[min(int(time / (4 * beat)), len(chords) - 1)].triad % 12
                near = sorted(range(-2, 3), key=abs)
                position += next((d for d in near if scale[position + d] % 12 in triad), 0)
            notes.append(Note(time, length, float(scale[position])))
            time += length
        phrases.append(notes)
        rest = rng.choice((1.0, 2.0, 2.0, 3.0)) + (8.0 if rng.random() < 0.12 else 0.0)
        time = np.ceil(time / beat) * beat + rest * beat
    return phrases
