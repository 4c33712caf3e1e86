"""tf.data: from prepared songs to batches of magnitude spectrogram patches.

A batch is made on the host: crops are read by index, augmented, transformed with `tf.signal.stft`, and
batched, in parallel and ahead of the training step. Which crops, and how they are augmented, is the
business of `sampling`; a process makes only its own slice of each global batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vocalsep_jax.data import sampling
from vocalsep_jax.data.sampling import Augmentation, Plan
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.data.tfds_songs import STEMS, SongStore
from vocalsep_jax.spectral import Stft
from vocalsep_jax.train_step import Batch

import tensorflow as tf  # isort: skip - after tfds_songs, which hides the GPU from it

_AHEAD = 4
"""Batches made ahead of the step that takes them."""


class PatchPipeline:
    """Batches of patches from the songs of one split.

    Attributes:
      patch_samples: samples of a crop.
    """

    def __init__(
        self,
        store: SongStore,
        stft: Stft,
        patch_frames: int,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Set up.

        Args:
          store: prepared songs.
          stft: the transform; its frames are uncentred.
          patch_frames: T.
          batch_size: of the global batch; a process makes `batch_size / process_count` of it.
          process_index, process_count: which slice of the batch is made here.

        Raises:
          ValueError: if the batch cannot be shared equally.
        """
        if batch_size % process_count:
            raise ValueError(f"batch_size {batch_size} cannot be shared by {process_count} processes")
        self._store = store
        self._stft = stft
        self._frames = patch_frames
        self._batch = batch_size
        self._share = batch_size // process_count
        self._first = process_index * self._share
        self.patch_samples = stft.samples(patch_frames)

    def training(
        self, seed: int, augmentation: Augmentation, first_step: int, last_step: int
    ) -> Iterator[Batch]:
        """Batches of steps `first_step` to `last_step - 1`; step s holds samples `s B ... (s + 1) B - 1`.

        Batches are NumPy, `[B / processes, F, T]`, all weights 1.
        """

        def plan(step: int) -> Plan:
            index = step * self._batch + self._first + np.arange(self._share)
            return sampling.training_plan(seed, index, self._store.table, self.patch_samples, augmentation)

        return self._batches(plan, first_step, last_step, lambda step: np.ones(self._share))

    def validation(self, patches: int) -> Iterator[Batch]:
        """The fixed validation patches, the same every time.

        The last batch is filled up with patches of weight 0.
        """
        whole = sampling.validation_plan(patches, self._store.table, self.patch_samples)
        steps = -(-patches // self._batch)

        def places(step: int) -> np.ndarray:
            return step * self._batch + self._first + np.arange(self._share)

        def plan(step: int) -> Plan:
            return Plan(*(field[places(step) % patches] for field in whole))

        return self._batches(plan, 0, steps, lambda step: places(step) < patches)

    def _batches(
        self,
        plan: Callable[[int], Plan],
        first: int,
        last: int,
        weight: Callable[[int], np.ndarray],
    ) -> Iterator[Batch]:
        types = [tf.as_dtype(field.dtype) for field in plan(first)]

        @tf.autograph.experimental.do_not_convert
        def crops_of(step: Any) -> Any:
            fields = tf.numpy_function(lambda s: list(plan(int(s))), [step], types)
            for field in fields:
                field.set_shape([self._share])
            return Plan(*fields)

        data = tf.data.Dataset.range(first, last)
        data = data.map(crops_of).unbatch()
        data = data.map(self._patch, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
        data = data.batch(self._share, drop_remainder=True).prefetch(_AHEAD)
        # Autotuning has nothing to find here, and its thread can hold up the end of the data by a minute.
        options = tf.data.Options()
        options.autotune.enabled = False
        data = data.with_options(options)
        for step, patches in enumerate(_with_our_errors(data.as_numpy_iterator()), start=first):
            mixture, vocals, accompaniment = patches
            yield Batch(mixture, vocals, accompaniment, np.asarray(weight(step), np.float32))

    @tf.autograph.experimental.do_not_convert
    def _patch(self, plan: Plan) -> tuple[Any, Any, Any]:
        """One sample of a plan as three magnitudes `[F, T]`: mixture, vocals, accompaniment."""
        voice = self._waveform("vocals", plan.voice_song, plan.voice_start)
        other = self._waveform("accompaniment", plan.other_song, plan.other_start)
        voice = _one_channel(voice, plan.voice_gain, plan.voice_swap, plan.channel)
        other = _one_channel(other, plan.other_gain, plan.other_swap, plan.channel)
        spectra = tf.signal.stft(
            tf.stack([voice, other]),
            frame_length=self._stft.n_fft,
            frame_step=self._stft.hop,
            fft_length=self._stft.n_fft,
            window_fn=lambda length, dtype: tf.signal.hann_window(length, True, dtype),
        )
        spectra = tf.transpose(spectra, [0, 2, 1])
        return tf.abs(spectra[0] + spectra[1]), tf.abs(spectra[0]), tf.abs(spectra[1])

    def _waveform(self, stem: str, song: Any, start: Any) -> Any:
        assert stem in STEMS

        def read(song: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            samples = self._store.read(stem, int(song), int(start), self.patch_samples)
            return samples, self._store.scales[int(song)]

        samples, scale = tf.numpy_function(read, [song, start], [tf.int16, tf.float32])
        samples.set_shape([self.patch_samples, 2])
        scale.set_shape([])
        return tf.cast(samples, tf.float32) * scale


def _with_our_errors(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; what fails inside tf.data is a fault of the prepared songs."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise SongError(
            f"the prepared songs cannot be read ({reason}); delete the song cache, it is made again"
        ) from error


def _one_channel(stereo: Any, gain: Any, swap: Any, channel: Any) -> Any:
    """`[S, 2]` to `[S]`: left and right exchanged or not, the channel chosen, scaled."""
    left, right = stereo[:, 0], stereo[:, 1]
    left, right = tf.where(swap, right, left), tf.where(swap, left, right)
    chosen = tf.where(channel == 1, left, tf.where(channel == 2, right, 0.5 * (left + right)))
    return gain * chosen
