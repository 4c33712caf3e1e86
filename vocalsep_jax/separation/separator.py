"""`Separator`: songs, as arrays, streams or files, into vocals and the rest.

Axis letters: `S` samples, `C` channels.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import track_name
from vocalsep_jax.audio.masks import patch_step
from vocalsep_jax.audio.wiener import wiener_window
from vocalsep_jax.models import DTYPES
from vocalsep_jax.runs.folder import RunError, find_checkpoint, find_run
from vocalsep_jax.separation import streaming
from vocalsep_jax.separation.spatial import SpatialFilter
from vocalsep_jax.separation.stem_files import STEMS, Separated, separate_to_files

if TYPE_CHECKING:
    from vocalsep_jax.separation.compiled_filter import CompiledFilter, VoiceProgram

# jax, and what needs it, is imported by Separator: `--help` and usage errors should not wait for it.

OVERLAP = 0.25
"""Default share of a patch that overlaps the next; more brought nothing (docs/separation.md)."""

_SIXTEEN_BIT = Encoding()


class Separator:
    """Separates waveforms with a trained network.

    Attributes:
      name: of the model: the name of the run's folder, or of the exported model's.
      sample_rate: the network's, in Hz. Other rates are resampled on the way in and out.
      stft: the network's transform.
      patch_frames: frames of the patches it sees.
      step: training step of the checkpoint.
      model: the network, a Flax module.
      variables: its parameters and statistics, NumPy arrays.
      wiener: whether a multichannel Wiener filter refines what it gives.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        *,
        overlap: float = OVERLAP,
        shifts: int = 1,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str | None = None,
        wiener: bool = False,
    ):
        """Load a checkpoint.

        Args:
          checkpoint: a run (its best checkpoint, else its latest), a checkpoint folder, a model that was
            exported, or the name of one that comes with this package; the default one of those if None.
          overlap: share of a patch that overlaps the next, in [0, 1). More is smoother and slower.
          shifts: number of separations to average, each of the song shifted by another part of a patch; the
            time grows in proportion.
          batch_size: patches predicted at once. Does not change the result.
          device: platform to run on (`cpu`, `gpu`, `tpu`); JAX's default if None.
          dtype: of the network's activations, one of `DTYPES`; as it was trained if None.
          wiener: whether what a stereo network gives is refined by a multichannel Wiener filter; networks
            of one channel have none.

        Raises:
          RunError: if the checkpoint cannot be used.
          ValueError: if an option is out of range or there is no such device.
        """
        import jax

        from vocalsep_jax.models.networks import for_prediction, variable_shapes
        from vocalsep_jax.runs.checkpoints import restore_model
        from vocalsep_jax.runs.record import read_record
        from vocalsep_jax.separation.compiled_filter import one_program_suits

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if shifts < 1:
            raise ValueError(f"shifts must be at least 1, got {shifts}")
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        patch_step(1, overlap)  # checks the range
        checkpoint = find_checkpoint(checkpoint)
        run = find_run(checkpoint)
        config = read_record(run).config
        self.name = run.resolve().name
        self._overlap, self._shifts, self._batch = overlap, shifts, batch_size
        self.sample_rate = config.audio.sample_rate
        self.stft, self.patch_frames = config.stft, config.audio.patch_frames
        self.model = config.network()
        if dtype is not None:
            self.model = self.model.clone(dtype=jax.numpy.dtype(dtype))
        shapes = variable_shapes(self.model, config.network_input)
        self.variables, self.step = restore_model(checkpoint, shapes)
        try:
            place = jax.devices(device)[0]
        except RuntimeError as error:
            raise ValueError(f"no device {device!r}: {str(error).splitlines()[0]}") from error
        try:
            model, variables = for_prediction(
                self.model, self.variables, config.network_input, place.platform
            )
        except ValueError as error:
            raise RunError(f"{checkpoint}: cannot be used, {error}") from error
        self._place, self._variables = place, jax.device_put(variables, place)
        self._apply = jax.jit(model.apply)
        self.wiener = wiener and self.model.channels == 2
        # The Wiener filter's windows are made on the host.
        self._in_one_program = one_program_suits(place.platform) and not self.wiener
        self._programs: dict[tuple[tuple[int, ...], ...], VoiceProgram] = {}
        self._making_program = threading.Lock()
        refine = jax.jit(functools.partial(wiener_window, xp=jax.numpy))

        def refine_there(*window: Any) -> Any:
            with jax.default_device(place):
                return refine(*window)

        self._wiener_window = refine_there

    def separate(self, samples: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Separate a waveform.

        Args:
          samples: `[S, C]` or `[S]`, any real dtype, full scale 1.0, finite; any number of channels, each
            filtered by a mask of its own. A stereo network looks at them by twos.
          sample_rate: Hz.

        Returns:
          `vocals` and `no_vocals`, float32, shaped as `samples`; they sum to it.

        Raises:
          ValueError: if the input is not 1- or 2-dimensional, empty, not finite, or too large to
            compute with.
        """
        mixture = np.asarray(samples, np.float32)
        if mixture.ndim not in (1, 2) or 0 in mixture.shape:
            raise ValueError(f"a waveform is [S] or [S, C] and not empty, got {mixture.shape}")
        columns = mixture.reshape(len(mixture), -1)
        parts = list(self.stream([columns], sample_rate))
        return {
            name: np.concatenate([part[name] for part in parts]).reshape(mixture.shape) for name in STEMS
        }

    def latency(self, sample_rate: int, channels: int) -> float:
        """The largest delay of `stream`: seconds of waveform that it takes beyond a sample to give it.

        A smaller `batch_size` makes it smaller: whole batches are waited for.
        """
        return self._voice_stream(channels, sample_rate).latency

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[dict[str, np.ndarray]]:
        """Separate a waveform that comes in blocks, in memory that does not depend on its length.

        Args:
          blocks: of any real dtype, `[S, C]` each, S from 0 on, one after the other; all with the same C.
            They are copied: their memory may be used for the next.
          sample_rate: Hz.

        Yields:
          `vocals` and `no_vocals` of the next samples, float32 `[S', C]` each, as soon as they are final,
          which is after `latency` at most. Together they are as long as the waveform, and do not depend on
          how it was cut into blocks.

        Raises:
          ValueError: if a block holds NaN, infinity, or numbers too large to compute with, or is not
            `[S, C]` with the C of those before it.
        """
        voice: streaming.VoiceStream | None = None
        waiting: list[np.ndarray] = []  # of the mixture, until the voice in it is final

        def stems(vocals: np.ndarray) -> dict[str, np.ndarray]:
            nonlocal waiting
            mixture = np.concatenate(waiting)
            now, later = mixture[: len(vocals)], mixture[len(vocals) :]
            waiting = [later]
            with np.errstate(over="ignore"):
                rest = now - vocals
            if not (np.isfinite(vocals).all() and np.isfinite(rest).all()):
                raise ValueError("the waveform's values are too large")
            return {"vocals": vocals, "no_vocals": rest}

        for came in blocks:
            with np.errstate(over="ignore"):  # infinity is looked for below
                block = np.array(came, np.float32)
            if block.ndim != 2 or not block.shape[1] or (waiting and block.shape[1] != waiting[0].shape[1]):
                raise ValueError(f"blocks are [S, C], all with the same C, not {block.shape}")
            if not np.isfinite(block).all():
                raise ValueError("the waveform holds NaN or infinity")
            if voice is None:
                voice = self._voice_stream(block.shape[1], sample_rate)
            waiting.append(block)
            with np.errstate(over="ignore", invalid="ignore"):  # `stems` looks
                vocals = voice.push(block)
            if len(vocals):
                yield stems(vocals)
        if voice is not None and waiting:
            with np.errstate(over="ignore", invalid="ignore"):
                vocals = voice.finish()
            yield stems(vocals)

    def _voice_stream(self, channels: int, sample_rate: int) -> streaming.VoiceStream:
        step = patch_step(self.patch_frames, self._overlap) * self.stft.hop
        shifts = [round(n * step / self._shifts) for n in range(self._shifts)]
        groups = streaming.channel_groups(channels, self.model.channels, len(shifts))
        inner: streaming.Filter
        if self._in_one_program and len(groups) <= self._batch:
            inner = self._compiled_filter(groups)
        else:
            inner = streaming.MaskFilter(
                self.stft,
                lambda batch: self._apply(self._variables, batch),
                channels=channels * len(shifts),
                patch_frames=self.patch_frames,
                batch_size=self._batch,
                overlap=self._overlap,
                groups=groups,
                spatial=SpatialFilter(self.stft.bins, groups, self._wiener_window) if self.wiener else None,
            )
        if len(shifts) > 1:
            inner = streaming.ShiftedFilter(inner, channels, shifts)
        return streaming.VoiceStream(inner, sample_rate, self.sample_rate, channels)

    def _compiled_filter(self, groups: list[tuple[int, ...]]) -> CompiledFilter:
        """A new filter by the program for such groups of channels, which is compiled once."""
        from vocalsep_jax.separation.compiled_filter import CompiledFilter, VoiceProgram

        key = tuple(groups)
        with self._making_program:
            if key not in self._programs:
                self._programs[key] = VoiceProgram(
                    self.stft,
                    self._apply,
                    patch_frames=self.patch_frames,
                    batch_size=self._batch,
                    overlap=self._overlap,
                    groups=key,
                )
        return CompiledFilter(self._programs[key], self._variables, self._place)

    def separate_file(
        self,
        path: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        encoding: Encoding = _SIXTEEN_BIT,
    ) -> dict[str, Path]:
        """Separate a file into `OUT/<model>/<track>/{vocals,no_vocals}.<container>`; see `separate_to`.

        Returns:
          The file written for each stem.
        """
        folder = Path(out) / self.name / track_name(path)
        outputs = {name: folder / f"{name}.{encoding.container}" for name in STEMS}
        self.separate_to(path, outputs, encoding=encoding)
        return outputs

    def separate_to(
        self,
        path: str | os.PathLike[str],
        outputs: Mapping[str, str | os.PathLike[str]],
        *,
        encoding: Encoding = _SIXTEEN_BIT,
        clip_mode: str = "clamp",
        start: float = 0.0,
        duration: float | None = None,
        progress: Callable[[float, float], None] | None = None,
    ) -> Separated:
        """Separate a file into files, in memory that does not depend on its length.

        Rate, channels and length are the input's. Integer stems of an input with as many bits sum to it
        exactly where none of them clips.

        Args:
          path: the song.
          outputs: where each stem goes; one or both of `STEMS`.
          encoding: of the outputs.
          clip_mode: what becomes of samples beyond full scale, which only float32 outputs hold. `clamp`
            cuts them off there; `rescale` multiplies both stems by the one factor that makes the larger
            one's peak full scale (float32 too; the stems wait on disk for it, 8 bytes a sample); `none`
            refuses.
          start: seconds of the song to leave out.
          duration: seconds to separate; to the end if None.
          progress: called with the seconds that are done and those there are in all (0 if unknown), at
            each block that is read or written. What it raises ends the separation.

        Raises:
          AudioError: if the input cannot be used or an output cannot be written; then there are no outputs.
          ValueError: if there is no output, no such stem or clip mode, or `start` or `duration` are out of
            range.
        """
        return separate_to_files(
            self.stream,
            path,
            outputs,
            encoding=encoding,
            clip_mode=clip_mode,
            start=start,
            duration=duration,
            progress=progress,
        )
