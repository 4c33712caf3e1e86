"""What training takes its patches from: the interface of the feeds.

A feed compiles a step on a `Batch` into one that takes the feed's own kind of input, and yields that input
as `Work`. `host_feed` makes batches on the host, `resident_feed` cuts them from songs on the devices;
`placement` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import Augmentation
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.runtime.data_parallel import CompiledStep


class Work(NamedTuple):
    """Input of one call of the compiled training step.

    Attributes:
      steps: how many steps the call takes.
      batch: what is split over the devices.
      shared: further arguments, which every device has whole.
    """

    steps: int
    batch: Any
    shared: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How samples become batches.

    Attributes:
      seed: seed of the stream of samples.
      stft: the transform.
      patch_frames: frames T of a patch.
      batch_size: patches of a global batch.
      augmentation: how training samples are changed.
      valid_patches: number of the fixed validation patches.
    """

    seed: int
    stft: Stft
    patch_frames: int
    batch_size: int
    augmentation: Augmentation
    valid_patches: int

    @property
    def crop(self) -> int:
        """Samples of a crop."""
        return self.stft.samples(self.patch_frames)


TrainStep = Callable[[Any, Batch], tuple[Any, Any]]
EvalStep = Callable[[Any, Batch], Any]


class Feed(Protocol):
    """Training and validation patches, in the form and the place that suits the machine."""

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """Compile a per-device training step: `(state, batch, *shared)` of a `Work` to state and loss."""

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """Work for steps `first` to `last - 1`; work that begins at step s ends by step `until(s)`."""

    def wrap_evaluation(self, step: EvalStep) -> CompiledStep:
        """Compile a per-device evaluation step: `(variables, batch, *shared)` to its sums."""

    def validation(self) -> Iterator[Work]:
        """The fixed validation patches, the same every time."""

    def example(self, split: str) -> Work:
        """Work of the sizes that `training` or `validation` yields, to compile with."""
