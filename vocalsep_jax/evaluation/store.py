"""Scores that are kept in a folder, so that a call that was ended goes on where it was.

A score is found by a digest of all that it depends on: the song's files, the method, the rate. Nothing is
ever out of date; what is not asked for any more lies there unused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import AudioError, Writer, read
from vocalsep_jax.data.songs import Song
from vocalsep_jax.evaluation.full_scores import FORMAT, Scores, Window
from vocalsep_jax.evaluation.methods import Method
from vocalsep_jax.runtime import disk

_CLIP = Encoding("flac")


class Store:
    """A folder of scores and clips, one file each, written whole or not at all."""

    def __init__(self, folder: Path, rate: int):
        """Take a folder, which need not be there, for scores at `rate` Hz."""
        self._folder, self._rate = folder, rate

    def read(self, song: Song, method: Method) -> Scores | None:
        """The scores that are kept, or None; a file that is damaged counts as none."""
        try:
            content = json.loads(self._path(song, method).read_text(encoding="utf-8"))
            return Scores(**content["scores"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, song: Song, method: Method, scores: Scores) -> None:
        """Keep scores; raises OSError."""
        content = {
            "song": song.name,
            "method": method.name,
            "depends_on": self._key(song, method),
            "scores": dataclasses.asdict(scores),
        }
        disk.write_text(self._path(song, method), json.dumps(content) + "\n")

    def has_clip(self, song: Song, name: Method | str, window: Window) -> bool:
        """Whether a clip is kept; one that is damaged counts as none."""
        return self.read_clip(song, name, window) is not None

    def read_clip(self, song: Song, name: Method | str, window: Window) -> np.ndarray | None:
        """A clip, float32 `[S, C]`, or None if it is not there or damaged."""
        try:
            return read(self._clip(song, name, window))[0]
        except AudioError:
            return None

    def write_clip(self, song: Song, name: Method | str, window: Window, samples: np.ndarray) -> None:
        """Keep a window of `samples`, the whole song `[S, C]`, as 16-bit FLAC.

        Args:
          song: the song.
          name: the method whose estimate it is, or `mixture` or `vocals` for what is given.
          window: its frames are cut out.
          samples: of the whole song.

        Raises:
          AudioError: if the file cannot be written.
        """
        clip = samples[window.first * self._rate : window.last * self._rate]
        path = self._clip(song, name, window)
        with Writer(path, self._rate, clip.shape[1], _CLIP, len(clip)) as writer:
            writer.write(clip)
            writer.finish()

    def _key(self, song: Song, method: Method | str) -> dict[str, Any]:
        key = {"format": FORMAT, "song": song.name, "files": song.fingerprint, "rate": self._rate}
        if isinstance(method, str):
            return key | {"given": method}
        # A checkpoint's name is not what it computes.
        return key | {"method": "checkpoint" if method.is_checkpoint else method.name, **method.depends_on}

    def _digest(self, song: Song, method: Method | str) -> str:
        text = json.dumps(self._key(song, method), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _path(self, song: Song, method: Method) -> Path:
        return self._folder / f"{self._digest(song, method)}.json"

    def _clip(self, song: Song, name: Method | str, window: Window) -> Path:
        return self._folder / f"{self._digest(song, name)}-{window.first}-{window.last}.flac"
