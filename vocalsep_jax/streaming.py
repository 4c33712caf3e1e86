"""Masking a waveform as it comes: constant memory, however long it is.

A waveform goes through in blocks of any size, and what comes out does not depend on the blocks.

Axis letters: `S` samples, `C` channels, `B` batch, `F` frequency bins, `N` frames, `T` frames of a patch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vocalsep_jax import audio
from vocalsep_jax.spectral import OverlapAdder, Stft, crossfade_weights, patch_count, patch_step

_BLOCK = 2**16
"""Samples that are transformed at a time."""


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
        predict: Callable[[np.ndarray], np.ndarray],
        *,
        channels: int,
        patch_frames: int,
        batch_size: int,
        overlap: float,
    ):
        """Start a waveform.

        Args:
          stft: the transform.
          predict: float32 `[B, F, T]` magnitudes to masks of that shape; always called with the same B.
          channels: C.
          patch_frames: T.
          batch_size: B.
          overlap: share of a patch that overlaps the next, in [0, 1).

        Raises:
          ValueError: if `overlap` is out of range.
        """
        self._stft, self._predict = stft, predict
        self._channels, self._frames, self._batch = channels, patch_frames, batch_size
        self._step = patch_step(patch_frames, overlap)
        self._crossfade = crossfade_weights(patch_frames)
        patches_ahead = -(-batch_size // channels)
        self.latency = stft.samples(patch_frames + patches_ahead * self._step) + stft.n_fft
        self._came = self._went = 0  # samples
        # Zeros before the first sample, so that it lies in as many frames as any other.
        self._unframed = np.zeros((channels, stft.n_fft), np.float32)
        self._to_drop = stft.n_fft
        # Frames whose mask is not final, from frame `_first` on.
        self._first = 0
        self._spectra = np.zeros((channels, stft.bins, 0), np.complex64)
        self._mask = np.zeros((channels, stft.bins, 0), np.float32)
        self._weight = np.zeros(0, np.float32)
        self._rows = 0  # patches predicted, each channel's counted
        self._overlap_add = OverlapAdder(stft, channels)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those that are final, `[S', C]`, S' from 0 on."""
        out = [np.zeros((0, self._channels), np.float32)]
        for start in range(0, len(samples), _BLOCK):
            block = samples[start : start + _BLOCK]
            self._came += len(block)
            self._transform(block.T)
            patches = (self._first + self._spectra.shape[-1] - self._frames) // self._step + 1
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
            self._append(np.zeros((self._channels, self._stft.bins, beyond), np.complex64))
        left = self._came - self._went
        return self._filter(patches, whole_batches=False)[:left]

    def _transform(self, samples: np.ndarray) -> None:
        """Add the frames that `[C, S]` more samples complete."""
        stft = self._stft
        self._unframed = np.concatenate([self._unframed, samples], axis=1)
        count = (self._unframed.shape[1] - stft.n_fft) // stft.hop + 1
        if count > 0:
            self._append(stft.transform(self._unframed[:, : stft.samples(count)]))
            self._unframed = self._unframed[:, count * stft.hop :]

    def _append(self, spectra: np.ndarray) -> None:
        new = spectra.shape[-1]
        self._spectra = np.concatenate([self._spectra, spectra], axis=2)
        self._mask = np.pad(self._mask, ((0, 0), (0, 0), (0, new)))
        self._weight = np.pad(self._weight, (0, new))

    def _filter(self, patches: int, *, whole_batches: bool) -> np.ndarray:
        """Predict the first `patches` patches, as far as not done, and give what is final then."""
        rows = patches * self._channels
        while self._rows < rows and (rows - self._rows >= self._batch or not whole_batches):
            self._predict_rows(min(self._batch, rows - self._rows))
        final = self._rows // self._channels * self._step
        if not whole_batches:
            final = self._first + self._spectra.shape[-1]
        return self._take_out(final - self._first)

    def _predict_rows(self, count: int) -> None:
        """Predict so many patches; the channels of one come one after the other."""
        batch = np.zeros((self._batch, self._stft.bins, self._frames), np.float32)
        rows = [divmod(row, self._channels) for row in range(self._rows, self._rows + count)]
        places = [
            (channel, slice(start := patch * self._step - self._first, start + self._frames))
            for patch, channel in rows
        ]
        for row, (channel, frames) in enumerate(places):
            np.abs(self._spectra[channel, :, frames], out=batch[row])
        masks = self._predict(batch)
        for mask, (channel, frames) in zip(masks, places, strict=False):
            self._mask[channel, :, frames] += mask * self._crossfade
            if channel == 0:
                self._weight[frames] += self._crossfade
        self._rows += count

    def _take_out(self, frames: int) -> np.ndarray:
        """The samples of the first `frames` frames, which are final; they are let go."""
        mask = self._mask[..., :frames] / self._weight[:frames]
        samples = self._overlap_add.push(self._spectra[..., :frames] * mask)
        self._spectra, self._mask = self._spectra[..., frames:], self._mask[..., frames:]
        self._weight = self._weight[frames:]
        self._first += frames
        drop = min(self._to_drop, samples.shape[1])
        self._to_drop -= drop
        self._went += samples.shape[1] - drop
        return samples[:, drop:].T


class VoiceStream:
    """The voice in a waveform of any sample rate, as it comes: resampled, filtered, resampled back."""

    def __init__(self, mask_filter: MaskFilter, sample_rate: int, filter_rate: int, channels: int):
        """Start a waveform at `sample_rate` Hz; the filter works at `filter_rate`, on as many channels."""
        self._filter = mask_filter
        self._in = audio.Resampler(sample_rate, filter_rate, channels)
        self._out = audio.Resampler(filter_rate, sample_rate, channels)
        self._came = self._went = 0
        # Samples resampled at a time: of a very low rate, few become many.
        self._block = max(1, min(_BLOCK, _BLOCK * sample_rate // filter_rate))

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
        """End the waveform: the voice in what is left of it, `[S', C]`, as long as that."""
        inner = np.concatenate([self._filter.push(self._in.finish()), self._filter.finish()])
        voice = np.concatenate([self._out.push(inner), self._out.finish()])
        return audio.fit_length(voice, self._came - self._went)
