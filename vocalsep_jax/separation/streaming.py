"""Masking a waveform as it comes: constant memory, however long it is.

A waveform goes through in blocks of any size, and what comes out does not depend on the blocks: places of
frames and patches count from the waveform's beginning, and batches are filled in the order of patches. A
block's size decides only when a sample comes out.

Axis letters: `S` samples, `C` channels, `B` batch, `F` frequency bins, `N` frames, `T` frames of a patch,
`K` channels that the network sees together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from vocalsep_jax.audio.masks import crossfade_weights, patch_count, patch_step
from vocalsep_jax.audio.resampling import Resampler, fit_length, resampling_lag
from vocalsep_jax.audio.stft import OverlapAdder, Stft
from vocalsep_jax.audio.wiener import WINDOW
from vocalsep_jax.separation.spatial import SpatialFilter

_BLOCK = 2**16
"""Samples that are transformed at a time."""

AHEAD = 2
"""Batches that are being predicted while the waveform is read and transformed, and masks are applied."""


class Filter(Protocol):
    """A waveform goes in, one of the same length comes out, as it becomes final.

    Attributes:
      latency: samples that the output is behind the input, at most.
    """

    latency: int

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those that are final, `[S', C]`, S' from 0 on."""

    def finish(self) -> np.ndarray:
        """End the waveform: the samples that are left, `[S', C]`."""


class Lead:
    """What a filter gives before the waveform begins: its first samples, which are dropped as they come."""

    def __init__(self, samples: int):
        """So many samples."""
        self._left = samples

    def dropped(self, samples: np.ndarray) -> np.ndarray:
        """The next samples `[S, C]` but for those that belong to it."""
        drop = min(self._left, len(samples))
        self._left -= drop
        return samples[drop:]


class MaskFilter:
    """Filters a waveform by a mask that is predicted patch by patch from its magnitudes.

    Patches overlap, and are averaged, cross-faded; the mixture's phase is kept. Samples come out once every
    patch they lie in has been predicted: behind the input by `latency` at most.

    Attributes:
      latency: samples.
    """

    def __init__(
        self,
        stft: Stft,
        predict: Callable[[np.ndarray], Any],
        *,
        channels: int,
        patch_frames: int,
        batch_size: int,
        overlap: float,
        groups: Sequence[tuple[int, ...]] | None = None,
        spatial: SpatialFilter | None = None,
    ):
        """Start a waveform.

        Args:
          stft: the transform.
          predict: float32 magnitudes `[B, F, T]`, or `[B, F, T, K]` if K is not 1, to masks of that shape,
            as anything `np.asarray` takes: an array that is still being computed is not waited for at
            once. Always called with the same B.
          channels: C.
          patch_frames: T.
          batch_size: B.
          overlap: share of a patch that overlaps the next, in [0, 1).
          groups: the K channels that the network sees together, see `channel_groups`; each by itself if
            None.
          spatial: refines what the masks give, before it becomes a waveform.

        Raises:
          ValueError: if `overlap` is out of range.
        """
        self._spatial = spatial
        self._stft, self._predict = stft, predict
        self._channels, self._frames, self._batch = channels, patch_frames, batch_size
        self._groups = channel_groups(channels, 1) if groups is None else list(groups)
        together = len(self._groups[0])
        self._patch = (stft.bins, patch_frames) if together == 1 else (stft.bins, patch_frames, together)
        self._step = patch_step(patch_frames, overlap)
        self._crossfade = crossfade_weights(patch_frames)
        patches_ahead = -(-AHEAD * batch_size // len(self._groups))
        frames_ahead = patch_frames + patches_ahead * self._step + (WINDOW if spatial else 0)
        self.latency = stft.samples(frames_ahead) + stft.n_fft
        self._came = self._went = 0  # samples
        # Zeros before the first sample, so that it lies in as many frames as any other.
        self._unframed = np.zeros((channels, stft.n_fft), np.float32)
        self._lead = Lead(stft.n_fft)
        # Frames whose mask is not final, from frame `_first` on.
        self._first = 0
        self._spectra = _Frames((channels, stft.bins), np.complex64)
        self._mask = _Frames((channels, stft.bins), np.float32)
        self._weight = _Frames((), np.float32)
        self._sent = self._rows = 0  # patches sent to the network, and received; by group of channels
        self._pending: deque[tuple[Any, list[tuple[int, int]]]] = deque()
        self._overlap_add = OverlapAdder(stft, (channels,))

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those that are final, `[S', C]`, S' from 0 on."""
        out = [np.zeros((0, self._channels), np.float32)]
        for start in range(0, len(samples), _BLOCK):
            block = samples[start : start + _BLOCK]
            self._came += len(block)
            self._transform(block.T)
            patches = (self._first + len(self._spectra) - self._frames) // self._step + 1
            out.append(self._filter(patches, whole_batches=True))
        return np.concatenate(out)

    def finish(self) -> np.ndarray:
        """End the waveform: the samples that are left, `[S', C]`."""
        frames = self._stft.frames(self._came)
        missing = self._stft.samples(frames) - self._stft.n_fft - self._came
        self._transform(np.zeros((self._channels, missing), np.float32))
        patches = patch_count(frames, self._frames, self._step)
        beyond = (patches - 1) * self._step + self._frames - frames
        if beyond > 0:  # the last patch ends in silence
            self._append(np.zeros((beyond, self._channels, self._stft.bins), np.complex64))
        left = self._came - self._went
        return self._filter(patches, whole_batches=False)[:left]

    def _transform(self, samples: np.ndarray) -> None:
        """Add the frames that `[C, S]` more samples complete."""
        stft = self._stft
        self._unframed = np.concatenate([self._unframed, samples], axis=1)
        count = (self._unframed.shape[1] - stft.n_fft) // stft.hop + 1
        if count > 0:
            self._append(np.moveaxis(stft.transform(self._unframed[:, : stft.samples(count)]), -1, 0))
            self._unframed = self._unframed[:, count * stft.hop :]

    def _append(self, spectra: np.ndarray) -> None:
        """Add frames, complex64 `[N, C, F]`."""
        self._spectra.append(len(spectra))[:] = spectra
        self._mask.append(len(spectra))[:] = 0
        self._weight.append(len(spectra))[:] = 0

    def _filter(self, patches: int, *, whole_batches: bool) -> np.ndarray:
        """Predict the first `patches` patches where that is not done yet; give the samples then final."""
        rows = patches * len(self._groups)
        while self._sent < rows and (rows - self._sent >= self._batch or not whole_batches):
            self._send(min(self._batch, rows - self._sent))
            if len(self._pending) == AHEAD:
                self._receive()
        if whole_batches:
            final = self._rows // len(self._groups) * self._step
        else:
            while self._pending:
                self._receive()
            final = self._first + len(self._spectra)
        return self._take_out(final - self._first, last=not whole_batches)

    def _send(self, count: int) -> None:
        """Start to predict the next `count` patches; a patch's groups of channels follow one another."""
        batch = np.zeros((self._batch, *self._patch), np.float32)
        rows = [divmod(row, len(self._groups)) for row in range(self._sent, self._sent + count)]
        for magnitude, (patch, group) in zip(batch, rows, strict=False):
            spectra = self._spectra.kept[self._frames_of(patch)]
            for place, channel in zip(_by_channel(magnitude), self._groups[group], strict=True):
                place[:] = np.abs(spectra[:, channel]).T
        self._pending.append((self._predict(batch), rows))
        self._sent += count

    def _receive(self) -> None:
        """Add the masks of the batch that was sent first."""
        masks, rows = self._pending.popleft()
        for mask, (patch, group) in zip(np.asarray(masks), rows, strict=False):
            frames = self._frames_of(patch)
            channels = self._groups[group]
            for place, channel in zip(_by_channel(mask), channels, strict=True):
                weight = self._crossfade[:, None] / channels.count(channel)
                self._mask.kept[frames, channel] += place.T * weight
            if group == 0:
                self._weight.kept[frames] += self._crossfade
        self._rows += len(rows)

    def _frames_of(self, patch: int) -> slice:
        """Where a patch lies in the frames that are kept."""
        start = patch * self._step - self._first
        return slice(start, start + self._frames)

    def _take_out(self, frames: int, *, last: bool) -> np.ndarray:
        """The samples of the first `frames` frames, whose mask is final; they are let go."""
        mixture, mask, weight = (x.kept[:frames] for x in (self._spectra, self._mask, self._weight))
        mask /= weight[:, None, None]
        voice = mixture * mask
        if self._spatial is not None:
            voice = self._spatial.push(mixture, voice, last=last)
        samples = self._overlap_add.push(np.moveaxis(voice, 0, -1))
        for frames_of in (self._spectra, self._mask, self._weight):
            frames_of.drop(frames)
        self._first += frames
        samples = self._lead.dropped(samples.T)
        self._went += len(samples)
        return samples


class _Frames:
    """Frames that come at the end and go at the beginning, beside one another in memory.

    They are moved when the room ends, once each on average, however many are kept.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        """No frames, of `shape` each."""
        self._room = np.empty((0, *shape), dtype)
        self._start = self._end = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._end - self._start

    @property
    def kept(self) -> np.ndarray:
        """The frames `[N, ...]`, to be read and written until the next ones come."""
        return self._room[self._start : self._end]

    def append(self, count: int) -> np.ndarray:
        """Add frames, which the caller has to write: `[count, ...]`."""
        if self._end + count > len(self._room):
            kept, needed = self.kept, len(self) + count
            if 2 * needed > len(self._room):
                self._room = np.empty((2 * needed, *kept.shape[1:]), kept.dtype)
            self._room[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        self._end += count
        return self._room[self._end - count : self._end]

    def drop(self, count: int) -> None:
        """Let the first ones go."""
        self._start += count


def channel_groups(channels: int, together: int, copies: int = 1) -> list[tuple[int, ...]]:
    """Channels by K = `together`, in their order, for a network that sees so many at once.

    Where they end early the last one stands for those that are missing: a network of two channels sees mono
    as stereo whose sides are the same.

    Args:
      channels: of the waveform.
      together: K.
      copies: how often the waveform is there, one copy's channels after the other's.
    """
    return [
        tuple(copy * channels + min(first + k, channels - 1) for k in range(together))
        for copy in range(copies)
        for first in range(0, channels, together)
    ]


def _by_channel(patch: np.ndarray) -> list[np.ndarray]:
    """Views of `[F, T]` or `[F, T, K]` for each channel: `[F, T]` each."""
    return [patch] if patch.ndim == 2 else [patch[..., k] for k in range(patch.shape[-1])]


class ShiftedFilter:
    """Averages what a filter makes of several shifts of a waveform.

    Each shift has patches, and frames, of its own; what depends on where they lie evens out. The shifts go
    through the filter as channels, and so through the network in the same batches.

    Attributes:
      latency: samples.
    """

    def __init__(self, inner: Filter, channels: int, shifts: Sequence[int]):
        """Start a waveform of C = `channels`.

        Args:
          inner: a filter of C channels for each shift, in that order.
          channels: C.
          shifts: samples that each is behind the waveform.
        """
        self._inner, self._channels = inner, channels
        self._most = max(shifts)
        self._before = [_Delay(shift, channels) for shift in shifts]
        self._after = [_Delay(self._most - shift, channels) for shift in shifts]
        self._lead = Lead(self._most)
        self.latency = inner.latency + self._most

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those that are final, `[S', C]`, S' from 0 on."""
        return self._mean(self._inner.push(self._shifted(samples)))

    def finish(self) -> np.ndarray:
        """End the waveform: the samples that are left, `[S', C]`."""
        rest = self._inner.push(self._shifted(np.zeros((self._most, self._channels), np.float32)))
        return self._mean(np.concatenate([rest, self._inner.finish()]))

    def _shifted(self, samples: np.ndarray) -> np.ndarray:
        return np.concatenate([delay.push(samples) for delay in self._before], axis=1)

    def _mean(self, filtered: np.ndarray) -> np.ndarray:
        parts = np.split(filtered, len(self._after), axis=1)
        aligned = [delay.push(part) for delay, part in zip(self._after, parts, strict=True)]
        return self._lead.dropped(np.mean(aligned, axis=0))


class _Delay:
    """Gives what came so many samples before, and zeros at first."""

    def __init__(self, samples: int, channels: int):
        self._kept = np.zeros((samples, channels), np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        both = np.concatenate([self._kept, samples])
        self._kept = both[len(samples) :]
        return both[: len(samples)]


class VoiceStream:
    """The voice in a waveform of any sample rate, as it comes: resampled, filtered, resampled back."""

    def __init__(self, inner: Filter, sample_rate: int, filter_rate: int, channels: int):
        """Start a waveform at `sample_rate` Hz; the filter works at `filter_rate`, on as many channels."""
        self._filter = inner
        self._rates = sample_rate, filter_rate
        self._in = Resampler(sample_rate, filter_rate, channels)
        self._out = Resampler(filter_rate, sample_rate, channels)
        self._came = self._went = 0
        # Samples resampled at a time. At a very low rate, few of them become many at the filter's.
        self._block = max(1, min(_BLOCK, _BLOCK * sample_rate // filter_rate))

    @property
    def latency(self) -> float:
        """Seconds that the voice is behind the waveform, at most."""
        rate, inner = self._rates
        lags = resampling_lag(rate, inner), resampling_lag(inner, rate)
        return self._filter.latency / inner + sum(lags)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give the voice as far as it is final, `[S', C]`."""
        self._came += len(samples)
        voice = np.concatenate(
            [samples[:0]]
            + [
                self._out.push(self._filter.push(self._in.push(samples[start : start + self._block])))
                for start in range(0, len(samples), self._block)
            ]
        )
        self._went += len(voice)
        return voice

    def finish(self) -> np.ndarray:
        """End the waveform: the rest of the voice, `[S', C]`; all of it is as long as the waveform."""
        inner = np.concatenate([self._filter.push(self._in.finish()), self._filter.finish()])
        voice = np.concatenate([self._out.push(inner), self._out.finish()])
        return fit_length(voice, self._came - self._went)
