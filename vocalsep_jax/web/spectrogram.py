"""Pictures of spectrograms, made in memory that does not depend on a song's length."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np

from vocalsep_jax.audio.files import Reader
from vocalsep_jax.audio.stft import Stft

WIDTH, HEIGHT = 1200, 160
LOWEST, HIGHEST = 40.0, 16_000.0
"""Hz at the lower and the upper edge; frequencies are spread logarithmically."""
RANGE_DB = (-100.0, -20.0)
"""Levels of the darkest and the brightest colour, dB; a full-scale sine has 0."""

_WINDOW_SECONDS = 0.09
_FRAMES_A_COLUMN = 2

_COLOURS = (
    (0, (8, 8, 24)),
    (80, (72, 24, 110)),
    (160, (214, 72, 80)),
    (220, (250, 176, 70)),
    (255, (255, 252, 214)),
)
"""Of some of the 256 levels; the others lie between."""


def spectrogram(path: Path, start: int, count: int) -> np.ndarray:
    """The spectrogram of a file in decibels, channels taken together by their power.

    Args:
      path: the file.
      start, count: the part of it, in samples; what the file does not have of it stays silent.

    Returns:
      float32 `[HEIGHT, WIDTH]`, the highest frequency first, the loudest of all that falls on a pixel.

    Raises:
      AudioError: if the file cannot be read.
    """
    with Reader(path) as reader:
        size = 1 << min(max(8, round(np.log2(reader.rate * _WINDOW_SECONDS))), 14)
        window = Stft(size, size // 2).window()
        places = np.linspace(0, max(0, count - size), WIDTH * _FRAMES_A_COLUMN).astype(int)
        power = np.zeros((len(places), size // 2 + 1), np.float32)
        waiting, first, done = np.zeros((0, reader.channels), np.float32), 0, 0  # `first`: of `waiting`

        def take(last: bool) -> None:
            nonlocal done
            while done < len(places) and (last or places[done] + size <= first + len(waiting)):
                frame = waiting[max(0, places[done] - first) :][:size]
                spectrum = np.fft.rfft(frame * window[: len(frame), None], size, axis=0)
                power[done] = (np.abs(spectrum) ** 2).sum(1)
                done += 1

        for block in reader.blocks(start, count):
            keep = places[done] - first if done < len(places) else len(waiting)
            waiting, first = np.concatenate([waiting[keep:], block]), first + min(keep, len(waiting))
            take(last=False)
        take(last=True)
        rate = reader.rate
    columns = power.reshape(WIDTH, _FRAMES_A_COLUMN, -1).max(1).T * np.float32((2 / window.sum()) ** 2)
    # The bins between the edges of each row; between low ones lie rows without any, which take the nearest.
    edges = LOWEST * (HIGHEST / LOWEST) ** (np.arange(HEIGHT + 1) / HEIGHT) * size / rate
    rows = []
    for low, high in itertools.pairwise(edges):
        begin = min(round(low), len(columns))
        rows.append(columns[begin : max(begin + 1, round(high))].max(0, initial=0.0))
    return 10 * np.log10(np.maximum(np.stack(rows[::-1]), 1e-12))


def picture(levels: np.ndarray) -> bytes:
    """A PNG of levels in dB, `[H, W]`, in `RANGE_DB`."""
    from PIL import Image

    low, high = RANGE_DB
    shades = np.clip((levels - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    image = Image.fromarray(shades, "P")
    at, colours = [x for x, _ in _COLOURS], np.array([colour for _, colour in _COLOURS])
    ramp = np.stack([np.interp(np.arange(256), at, colours[:, c]) for c in range(3)], axis=1)
    image.putpalette(ramp.round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
