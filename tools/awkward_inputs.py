"""Measure what a model does with inputs that are not songs as they should be.

    python tools/awkward_inputs.py MODEL --songs FOLDER --split test --instrumentals FOLDER --json FILE

FOLDER of songs is as training reads it; that of instrumentals holds audio files without a voice. Thirty
seconds of each are taken: of a song those where the voice is loudest.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax.audio.files import AudioError, read
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.data.songs import SPLITS, SongError, find_library, instrumental_files
from vocalsep_jax.data.synth.band import drum_solo
from vocalsep_jax.data.synth.score import Note, Score
from vocalsep_jax.data.synth.sound import rms
from vocalsep_jax.data.synth.voice import sing
from vocalsep_jax.measures.metrics import is_silent, leakage, usdr
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging
from vocalsep_jax.separation.separator import Separator

log = logging.getLogger(__name__)

_RATE = 44_100
_SECONDS = 30
_TAKEN = "taken for voice, relative to the input"
_SCORE = "vocals uSDR"


def loudest(samples: np.ndarray, length: int) -> slice:
    """Where the `length` loudest successive samples of `[S, C]` are."""
    energy = np.concatenate([[0.0], np.cumsum(np.sum(np.square(samples, dtype=np.float64), axis=1))])
    if len(samples) <= length:
        return slice(0, len(samples))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return slice(start, start + length)


def without_voice(separator: Separator, instrumentals: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is taken for voice where there is none.

    Raises:
      AudioError, SongError: if a file cannot be read, or there is no such folder.
    """
    length = 10 * _RATE
    rng, time = np.random.default_rng(0), np.arange(length) / _RATE
    noise = rng.normal(0, 0.1, (length, 2))
    score = Score.compose(rng, length / _RATE)
    clicks = np.zeros((len(time), 2))
    clicks[:: _RATE // 2] = 0.9
    inputs = {
        "white noise": (noise, _RATE),
        "a sine of 440 Hz": (np.repeat(0.3 * np.sin(2 * np.pi * 440 * time)[:, None], 2, axis=1), _RATE),
        "clicks, two a second": (clicks, _RATE),
        "a drum solo (generated)": (drum_solo(rng, score, length), _RATE),
    }
    for path in instrumental_files(instrumentals):
        samples, rate = read(path)
        inputs[path.name] = samples[loudest(samples, _SECONDS * rate)].copy(), rate
    for name, (samples, rate) in inputs.items():
        samples = samples.astype(np.float32)
        voice = separator.separate(samples, rate)["vocals"]
        yield name, {"what": _TAKEN, "decibels": leakage(samples, voice)}


def speech(separator: Separator) -> Iterator[tuple[str, dict[str, Any]]]:
    """How well spoken syllables are kept, of the voice of built-in songs: all of it is voice."""
    rng = np.random.default_rng(1)
    beat, seconds = 0.18, 10.0
    pitches = 45 + np.cumsum(rng.uniform(-1.5, 1.5, int(seconds / beat))).clip(-4, 6)
    notes = [Note(n * beat, 0.8 * beat, float(pitch)) for n, pitch in enumerate(pitches)]
    phrases = [notes[n : n + 8] for n in range(0, len(notes), 10)]
    spoken = sing(rng, Score(beat, [], phrases), round(seconds * _RATE))
    spoken = (0.1 / rms(spoken) * spoken).astype(np.float32)
    score = usdr(spoken, separator.separate(spoken, _RATE)["vocals"])
    yield "speech (generated syllables)", {"what": _SCORE, "decibels": score}


def of_songs(separator: Separator, songs: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Scores of songs that were changed before they are separated, each against its own true voice.

    Raises:
      SongError: if a song cannot be read.
    """
    for song in find_library(songs).splits[split]:
        stems = song.load(_RATE)
        part = loudest(stems.vocals, _SECONDS * _RATE)
        mixture, vocals = stems.mixture[part], stems.vocals[part]
        if is_silent(vocals):
            continue
        changed = {
            "as it is": (mixture, vocals, _RATE),
            "mono": (mixture.mean(axis=1, keepdims=True), vocals.mean(axis=1, keepdims=True), _RATE),
            "20 dB softer": (mixture / 10, vocals / 10, _RATE),
            "12 dB louder, clipped": (np.clip(mixture * 4, -1, 1), vocals * 4, _RATE),
            "left and right exchanged": (mixture[:, ::-1], vocals[:, ::-1], _RATE),
            "at 8 kHz": (resample(mixture, _RATE, 8_000), resample(vocals, _RATE, 8_000), 8_000),
            "the voice alone": (vocals, vocals, _RATE),
        }
        for change, (given, wanted, rate) in changed.items():
            found = separator.separate(given, rate)["vocals"]
            yield f"{song.name}, {change}", {"what": _SCORE, "decibels": usdr(wanted, found)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 2 wrong usage or something missing."""
    parser = argparse.ArgumentParser(
        prog="python tools/awkward_inputs.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--songs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--split", choices=SPLITS, default="test", help="(%(default)s)")
    parser.add_argument("--instrumentals", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(argv)
    start_logging()

    from vocalsep_jax.runtime.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        separator = Separator(options.model)
        silence = separator.separate(np.zeros((_RATE, 2), np.float32), _RATE)["vocals"]
        if silence.any():
            raise RunError(f"{options.model}: makes a voice of silence")
        found = dict(without_voice(separator, options.instrumentals))
        found |= dict(speech(separator))
        found |= dict(of_songs(separator, options.songs, options.split))
        disk.write_text(options.json, json.dumps(found, indent=2) + "\n")
    except (RunError, AudioError, SongError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    for name, x in found.items():
        print(f"{name}: {x['what']}, {x['decibels']:.1f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
