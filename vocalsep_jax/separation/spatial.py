"""The multichannel Wiener filter on spectra as they come, window by window.

Axis letters: `C` channels, `F` frequency bins, `N` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vocalsep_jax.audio.wiener import WINDOW, Spread, wiener_window

Update = Callable[[Any, Any, Spread], tuple[Any, Spread]]
"""`wiener_window` on arrays of one kind, perhaps compiled."""


class SpatialFilter:
    """Refines a voice in stereo by where it lies between the channels.

    Channels that are not in a pair stay as they are. Windows count from the first frame, so that what comes
    out does not depend on how the frames come.
    """

    def __init__(self, bins: int, groups: Sequence[tuple[int, ...]], update: Update = wiener_window):
        """Start a waveform of F = `bins`.

        Args:
          bins: F.
          groups: channels that the network sees together; those of two different channels are pairs.
          update: `wiener_window`, or a compiled one.
        """
        channels = 1 + max(channel for group in groups for channel in group)
        self._update = update
        self._spreads = {group: Spread.none(bins) for group in groups if len(set(group)) == 2}
        self._mixture = self._voice = np.zeros((0, channels, bins), np.complex64)

    def push(self, mixture: np.ndarray, voice: np.ndarray, *, last: bool) -> np.ndarray:
        """Take the next frames; give those of the windows that are complete, or, at the last, all.

        Args:
          mixture, voice: complex64 `[N, C, F]`, of a mixture and a first estimate of the voice in it.
          last: whether they are the last ones.

        Returns:
          The refined voice, complex64 `[N', C, F]`, N' from 0 on.
        """
        self._mixture = np.concatenate([self._mixture, mixture])
        self._voice = np.concatenate([self._voice, voice])
        out = [voice[:0]]
        while (frames := len(self._mixture)) >= WINDOW or (last and frames):
            count = min(frames, WINDOW)
            out.append(self._filter(self._mixture[:count], self._voice[:count]))
            self._mixture, self._voice = self._mixture[count:], self._voice[count:]
        return np.concatenate(out)

    def _filter(self, mixture: np.ndarray, voice: np.ndarray) -> np.ndarray:
        """One window; a short one is filled up with silence, so that all are of one shape."""
        frames = len(mixture)
        refined = np.array(voice)
        for group, spread in self._spreads.items():
            pair = list(group)
            mixed, estimate = (
                np.pad(np.moveaxis(x[:, pair], 0, -1), [(0, 0), (0, 0), (0, WINDOW - frames)])
                for x in (mixture, voice)
            )
            filtered, self._spreads[group] = self._update(mixed, estimate, spread)
            refined[:, pair] = np.moveaxis(np.asarray(filtered)[..., :frames], -1, 0)
        return refined
