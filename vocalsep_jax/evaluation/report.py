"""Writing a report: one HTML page that holds all it shows, `scores.csv`, `frames.csv`, `scores.json`."""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import Writer
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.data.songs import Song
from vocalsep_jax.evaluation import figures
from vocalsep_jax.evaluation.full_scores import FRAME_SECONDS, MEASURES, TARGETS, Window, extreme_windows
from vocalsep_jax.evaluation.methods import Method
from vocalsep_jax.evaluation.page import Clip, Pictures, page
from vocalsep_jax.evaluation.store import Store
from vocalsep_jax.evaluation.tables import Evaluation, frames_csv, number, scores_csv, scores_json
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line

log = logging.getLogger(__name__)

RESULTS = "results"
"""Folder of a report where its scores and clips are kept."""

ROOM = 13_000_000
"""Characters of a page that clips may take: it stays below 15 MB."""

_MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def write_report(folder: Path, evaluation: Evaluation, songs: Sequence[Song], store: Store) -> Path:
    """Write all files of a report, each whole or not at all.

    Args:
      folder: where they go.
      evaluation: what was found.
      songs: those that were scored, of which clips are kept.
      store: keeps them.

    Returns:
      The page.

    Raises:
      OSError: if a file cannot be written.
      AudioError: if a sound cannot be encoded.
    """
    disk.write_text(folder / "scores.csv", scores_csv(evaluation))
    disk.write_text(folder / "frames.csv", frames_csv(evaluation))
    # File names may be no text: JSON has them as Python does, with surrogates escaped.
    text = json.dumps(scores_json(evaluation), indent=2, allow_nan=False)
    disk.write_text(folder / "scores.json", text + "\n")
    clips, left_out, lost = _clips(evaluation, songs, store)
    out = folder / "index.html"
    disk.write_text(out, page(evaluation, _pictures(evaluation), clips, left_out, lost))
    return out


def _pictures(evaluation: Evaluation) -> Pictures:
    # Silence has 0 dB by definition, and no frames.
    drawn = [m.name for m in evaluation.methods if m.name != "silence"]
    usdr = {name: evaluation.values(name, "vocals_usdr") for name in drawn}
    frames = {}
    for target in TARGETS:
        panels = {
            MEASURES[key].name: {name: _frames(evaluation, name, f"{target}_{key}") for name in drawn}
            for key in ("sdr", "sir", "sar", "isr")
        }
        frames[target] = figures.frame_distributions(panels)
    bars = figures.song_bars(usdr, list(evaluation.scores), len(evaluation.checkpoints))
    return Pictures(bars, frames)


def _frames(evaluation: Evaluation, method: str, column: str) -> list[float]:
    """A measure of all frames of all songs, where there is one and it is not of rounding alone."""
    listed = (by_method[method].frames[column] for by_method in evaluation.scores.values())
    return [x for frames in listed for x in frames if x is not None and x < 99]


def _clips(evaluation: Evaluation, songs: Sequence[Song], store: Store) -> tuple[list[Clip], int, int]:
    """Clips of the songs, as many as there is room for; how many there is none for; how many are lost.

    Where there are too many songs, the first checkpoint's best and worst ones are taken, and others evenly
    between.
    """
    name = evaluation.methods[0].name
    scored = [s for s in songs if s.name in evaluation.scores]
    value = {s.name: evaluation.scores[s.name][name].values["vocals_usdr"] for s in scored}
    ranked = sorted((s for s in scored if value[s.name] is not None), key=lambda s: value[s.name] or 0.0)
    wanted = [
        (song, window)
        for song in (ranked[n] for n in _spread(len(ranked)))
        for window in extreme_windows(evaluation.scores[song.name][name])
    ]
    found: list[Clip] = []
    room, left_out, lost = ROOM, 0, 0
    for song, window in wanted:
        kept = _kept(evaluation, song, window, store)
        if kept is None:
            title = one_line(song.name)
            log.warning("%s: the clip of its %s part is not there or damaged", title, window.kind)
            lost += 1
            continue
        clip = None if left_out else _clip(evaluation, song, window, kept)
        if clip is None or clip.size > room:
            left_out += 1
            continue
        found.append(clip)
        room -= clip.size
    order = {s.name: n for n, s in enumerate(scored)}
    return sorted(found, key=lambda clip: order[clip.song]), left_out, lost


def _spread(count: int) -> list[int]:
    """0 to `count - 1` so that any first few are spread evenly: the ends, the middle, the quarters, ..."""
    order: list[int] = []
    parts = 1
    while len(order) < count:
        for n in range(parts + 1):
            place = round(n * (count - 1) / parts)
            if place not in order:
                order.append(place)
        parts *= 2
    return order


def _kept(evaluation: Evaluation, song: Song, window: Window, store: Store) -> list[np.ndarray] | None:
    """Mixture, vocals and each checkpoint's estimate of a window; None if one is not there or damaged."""
    names: list[Method | str] = ["mixture", "vocals", *evaluation.checkpoints]
    kept = [store.read_clip(song, name, window) for name in names]
    there = [x for x in kept if x is not None]
    return there if len(there) == len(names) else None


def _clip(evaluation: Evaluation, song: Song, window: Window, kept: Sequence[np.ndarray]) -> Clip:
    """A window, of which there is `kept`, drawn and encoded."""
    mixture, vocals, *others = kept
    estimates = {m.name: samples for m, samples in zip(evaluation.checkpoints, others, strict=True)}
    rate = evaluation.rate
    sounds = {"mixture": _sound(mixture, rate), "true vocals": _sound(vocals, rate)}
    for name, samples in estimates.items():
        label = f" of {name}" if len(estimates) > 1 else ""
        sounds[f"estimated vocals{label}"] = _sound(samples, rate)
        sounds[f"error{label}"] = _sound(vocals - samples, rate)
    first, last = (_clock(n * FRAME_SECONDS) for n in (window.first, window.last))
    title = f"{window.kind.capitalize()}: {first} to {last}, vocals uSDR {number(window.usdr)} dB"
    return Clip(song.name, title, figures.spectrograms(mixture, vocals, estimates, rate), sounds)


def _sound(samples: np.ndarray, rate: int) -> str:
    """Samples `[S, C]` as the address of an MP3, which every browser plays; of two channels at most."""
    heard = next((x for x in _MP3_RATES if x >= rate), _MP3_RATES[-1])
    encoding = Encoding("mp3", None, 96 if heard >= 16_000 else 48)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp3"
        with Writer(path, heard, samples.shape[1], encoding, len(samples)) as writer:
            writer.write(resample(samples, rate, heard))
            writer.finish()
        return "data:audio/mpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
