"""tf.data: from prepared songs to batches, made on the host, in parallel and ahead of the training step.

A batch holds crops as integers, or the magnitude patches that SciPy's FFT makes of them. `sampling`
says which crops, and how they are changed. A process makes only its own slice of each global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data import sampling
from vocalsep_jax.data.augmentation import Augmentation, bends_of, channels_of
from vocalsep_jax.data.crops import Batch, Crops, equalizer_curves, read_crops
from vocalsep_jax.data.prepared import SongStore
from vocalsep_jax.data.sampling import SamplePlan
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runtime.cores import available_cores
from vocalsep_jax.runtime.quiet_tensorflow import tf

_AHEAD = 4
"""Batches made ahead of the step that takes them."""


class PatchPipeline:
    """Batches from the songs of one split: `Batch`, or `Crops` where the STFT is left to the device.

    Attributes:
      patch_samples: samples of a crop.
    """

    def __init__(
        self,
        store: SongStore,
        stft: Stft,
        patch_frames: int,
        batch_size: int,
        augmentation: Augmentation,
        process_index: int = 0,
        process_count: int = 1,
        stft_on: str = "host",
    ):
        """Set up.

        Args:
          store: prepared songs.
          stft: the transform; its frames are uncentred.
          patch_frames: T.
          batch_size: of the global batch; a process makes `batch_size / process_count` of it.
          augmentation: how training samples are changed, and how many channels all have.
          process_index, process_count: which slice of the batch is made here.
          stft_on: `host` or `device`.

        Raises:
          ValueError: if the batch cannot be shared equally.
        """
        if batch_size % process_count:
            raise ValueError(f"batch_size {batch_size} cannot be shared by {process_count} processes")
        self._store = store
        self._stft = stft
        self._stft_on = stft_on
        self._frames = patch_frames
        self._batch = batch_size
        self._augmentation = augmentation
        self._channels, self._bends = channels_of(augmentation), bends_of(augmentation)
        self._share = batch_size // process_count
        self._first = process_index * self._share
        self.patch_samples = stft.samples(patch_frames)

    def training(self, seed: int, first_step: int, last_step: int) -> Iterator[Batch | Crops]:
        """Batches of steps `first_step` to `last_step - 1`; step s holds samples `s B ... (s + 1) B - 1`.

        Batches are NumPy, `[B / processes, ...]`, all weights 1.
        """

        def plan(step: int) -> tuple[SamplePlan, np.ndarray]:
            index = (step * self._batch + self._first + np.arange(self._share)).astype(np.uint32)
            table = self._store.table
            ones = np.ones(self._share)
            return sampling.training_plan(seed, index, table, self.patch_samples, self._augmentation), ones

        return self._batches(plan, first_step, last_step)

    def validation(self, patches: int) -> Iterator[Batch | Crops]:
        """The fixed validation patches, the same every time.

        The last batch is filled up with patches of weight 0.
        """
        plan, steps = sampling.validation_batches(
            patches, self._store.table, self.patch_samples, self._augmentation, self._batch
        )
        return self._batches(lambda step: plan(step, self._first, self._share), 0, steps)

    def empty_batch(self) -> Batch | Crops:
        """A batch of silence, as large as the others."""
        weight = np.ones(self._share, np.float32)
        if self._stft_on == "device":
            crops = np.zeros((self._share, 2, self.patch_samples), np.int16)
            gains = np.zeros((self._share, self._channels, 2), np.float32)
            bends = np.zeros((self._share, self._bends), np.float32)
            return Crops(crops, crops, gains, gains, weight, bends, bends)
        shape = (self._stft.bins, self._frames) + ((self._channels,) if self._channels > 1 else ())
        magnitude = np.zeros((self._share, *shape), np.float32)
        return Batch(magnitude, magnitude, magnitude, weight)

    def _batches(
        self, plan: Callable[[int], tuple[SamplePlan, np.ndarray]], first: int, last: int
    ) -> Iterator[Batch | Crops]:
        on_host, empty = self._stft_on == "host", self.empty_batch()

        def make(step: np.ndarray) -> list[np.ndarray]:
            samples, weight = plan(int(step))
            crops = read_crops(self._store, samples, self.patch_samples, weight)
            return list(self._patches(crops, empty) if on_host else crops)

        @tf.autograph.experimental.do_not_convert
        def read(step: Any) -> Batch | Crops:
            fields = tf.numpy_function(make, [step], [x.dtype for x in empty])
            for field, like in zip(fields, empty, strict=True):
                field.set_shape(like.shape)
            return type(empty)(*fields)

        # As many again as are made at once, so that one that is late holds up no other: they come in order.
        data = tf.data.Dataset.range(first, last)
        data = data.map(read, num_parallel_calls=2 * available_cores(), deterministic=True)
        # Autotuning has nothing to find here, and its thread can hold up the end of the data by a minute.
        options = tf.data.Options()
        options.autotune.enabled = False
        return _with_our_errors(data.prefetch(_AHEAD).with_options(options).as_numpy_iterator())

    def _patches(self, crops: Crops, like: Batch | Crops) -> Batch:
        """`crops.patches`, computed by NumPy and SciPy, which let other batches be made meanwhile.

        What is returned is a new batch of the sizes of `like`.

        A sample's spectra stay in the processor's cache; those of a batch would not.
        """
        batch = Batch(*map(np.empty_like, like))
        batch.weight[:] = crops.weight
        bends = np.stack([crops.vocals_bends, crops.accompaniment_bends], axis=1)
        curves = equalizer_curves(bends, self._stft.bins, np)[..., None] if self._bends else None
        for n in range(len(crops.weight)):
            stems = [
                np.einsum("cs,kc->ks", x[n], gains[n], dtype=np.float32)
                for x, gains in (
                    (crops.vocals, crops.vocals_gains),
                    (crops.accompaniment, crops.accompaniment_gains),
                )
            ]
            vocals, accompaniment = self._stft.transform_by_bins(np.stack(stems))
            if curves is not None:
                vocals, accompaniment = vocals * curves[n, 0], accompaniment * curves[n, 1]
            spectra = vocals + accompaniment, vocals, accompaniment
            for spectrum, field in zip(spectra, batch[:3], strict=True):
                # Written where they belong: temporary arrays would cost as much as the arithmetic.
                place = field[n].reshape(*field.shape[1:3], self._channels)
                np.abs(spectrum, out=np.moveaxis(place, -1, 0))
        return batch


def _with_our_errors(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; what fails inside tf.data is a fault of the prepared songs."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise SongError(
            f"the prepared songs cannot be read ({reason}); delete the song cache, it is made again"
        ) from error
