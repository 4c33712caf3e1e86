"""`Separator`: songs, as arrays, streams or files, into vocals and the rest.

Axis letters: `S` samples, `C` channels.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from vocalsep_jax import audio, files, runs, spectral, streaming

# jax, and what needs it, is imported by Separator: `--help` and usage errors should not wait for it.

STEMS = ("vocals", "no_vocals")
CLIP_MODES = ("clamp", "rescale", "none")
DTYPES = ("float32", "bfloat16")
OVERLAP = 0.25
"""Default; with more, scores and leakage of the songs tried stayed as they were (docs/separation.md)."""

_Item = TypeVar("_Item")
_SIXTEEN_BIT = audio.Encoding()
_SPOOL_BLOCK = 2**16
"""Samples that are read at a time from what waits on disk."""


@dataclass(frozen=True)
class Separated:
    """What came of a file.

    Attributes:
      samples: S of each channel.
      sample_rate: Hz.
      channels: C.
      clipped: sample values that were cut off at full scale, all written stems and channels together.
      scale: what both stems were multiplied by, 1.0 unless they were rescaled.
    """

    samples: int
    sample_rate: int
    channels: int
    clipped: int = 0
    scale: float = 1.0

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate


class Separator:
    """Separates waveforms with a trained network.

    Attributes:
      name: of the model: the run's folder name.
      sample_rate: the network's, in Hz. Other rates are resampled on the way in and out.
      stft: the network's transform.
      patch_frames: frames of the patches it sees.
      step: training step of the checkpoint.
      model: the network, a Flax module.
      variables: its parameters and statistics, on the device.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        *,
        overlap: float = OVERLAP,
        shifts: int = 1,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str | None = None,
    ):
        """Load a checkpoint.

        Args:
          checkpoint: a run (its best checkpoint, else its latest), a checkpoint folder, or a model that
            was exported.
          overlap: share of a patch that overlaps the next, in [0, 1). More is smoother and slower.
          shifts: separations to average, of the song shifted by parts of a patch; takes so many times as
            long.
          batch_size: patches predicted at once. Does not change the result.
          device: platform to run on (`cpu`, `gpu`, `tpu`); JAX's default if None.
          dtype: of the network's activations, one of `DTYPES`; as it was trained if None.

        Raises:
          RunError: if the checkpoint cannot be used.
          ValueError: if an option is out of range or there is no such device.
        """
        import jax

        from vocalsep_jax import checkpoints
        from vocalsep_jax.models.unet import unet_from_config

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if shifts < 1:
            raise ValueError(f"shifts must be at least 1, got {shifts}")
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        spectral.patch_step(1, overlap)  # checks the range
        run = runs.find_run(checkpoint)
        config = runs.read_config(run)["config"]
        self.name = run.resolve().name
        self._overlap, self._shifts, self._batch = overlap, shifts, batch_size
        try:
            self.sample_rate: int = config["audio"]["sample_rate"]
            self.stft = spectral.Stft(config["audio"]["n_fft"], config["audio"]["hop"])
            self.patch_frames: int = config["audio"]["patch_frames"]
            self.model = unet_from_config(config)
        except (KeyError, TypeError) as error:
            raise runs.RunError(f"{runs.config_path(run)}: not the config of a run ({error!r})") from error
        if dtype is not None:
            self.model = self.model.clone(dtype=jax.numpy.dtype(dtype))
        patch = jax.ShapeDtypeStruct((batch_size, self.stft.bins, self.patch_frames), np.float32)
        shapes = jax.eval_shape(self.model.init, jax.random.key(0), patch)
        variables, self.step = checkpoints.restore_model(Path(checkpoint), shapes)
        try:
            place = jax.devices(device)[0]
        except RuntimeError as error:
            raise ValueError(f"no device {device!r}: {str(error).splitlines()[0]}") from error
        self.variables = jax.device_put(variables, place)
        self._apply = jax.jit(self.model.apply)

    def separate(self, samples: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Separate a waveform.

        Args:
          samples: `[S, C]` or `[S]`, any real dtype, full scale 1.0, finite; any number of channels, each
            filtered by a mask of its own.
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
        """Seconds of a waveform that `stream` needs beyond a sample, at most, before it gives that sample.

        Small with a small `batch_size`: whole batches are waited for.
        """
        return self._voice_stream(channels, sample_rate).latency

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[dict[str, np.ndarray]]:
        """Separate a waveform that comes in blocks, in memory that does not depend on its length.

        Args:
          blocks: of any real dtype, `[S, C]` each, S from 0 on, one after the other; all with the same C.
            They are copied: their memory may be used for the next.
          sample_rate: Hz.

        Yields:
          `vocals` and `no_vocals` of the next samples, float32 `[S', C]` each, as soon as they are final:
          behind what came by `latency` at most.
          In the end they are as many as came, and do not depend on how the waveform was cut into blocks.

        Raises:
          ValueError: if a block holds NaN, infinity, or numbers too large to compute with, or has not the
            shape of those before it.
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
        step = spectral.patch_step(self.patch_frames, self._overlap) * self.stft.hop
        shifts = [round(n * step / self._shifts) for n in range(self._shifts)]
        inner: streaming.Filter = streaming.MaskFilter(
            self.stft,
            lambda batch: self._apply(self.variables, batch),
            channels=channels * len(shifts),
            patch_frames=self.patch_frames,
            batch_size=self._batch,
            overlap=self._overlap,
        )
        if len(shifts) > 1:
            inner = streaming.ShiftedFilter(inner, channels, shifts)
        return streaming.VoiceStream(inner, sample_rate, self.sample_rate, channels)

    def separate_file(
        self,
        path: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        encoding: audio.Encoding = _SIXTEEN_BIT,
    ) -> dict[str, Path]:
        """Separate a file into `OUT/<model>/<track>/{vocals,no_vocals}.<container>`; see `separate_to`.

        Returns:
          The file written for each stem.
        """
        folder = Path(out) / self.name / audio.track_name(path)
        outputs = {name: folder / f"{name}.{encoding.container}" for name in STEMS}
        self.separate_to(path, outputs, encoding=encoding)
        return outputs

    def separate_to(
        self,
        path: str | os.PathLike[str],
        outputs: Mapping[str, str | os.PathLike[str]],
        *,
        encoding: audio.Encoding = _SIXTEEN_BIT,
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
          outputs: where each stem goes; some of `STEMS`, or all.
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
        if not outputs:
            raise ValueError("no outputs")
        if unknown := [name for name in outputs if name not in STEMS]:
            raise ValueError(f"stems are {', '.join(STEMS)}, not {unknown[0]!r}")
        if clip_mode not in CLIP_MODES:
            raise ValueError(f"clip_mode must be one of {', '.join(CLIP_MODES)}, not {clip_mode!r}")
        if not start >= 0 or not (duration is None or duration > 0):
            raise ValueError(f"no part of a song: start {start}, duration {duration}")
        source = files.identity(Path(path))
        if source and source in (files.identity(Path(output)) for output in outputs.values()):
            raise audio.AudioError(f"{path}: its output would overwrite it")
        with audio.Reader(path) as song, contextlib.ExitStack() as stack:
            first = _in_samples(start, song.rate)
            count = None if duration is None else max(1, _in_samples(duration, song.rate))
            expected = max(0, song.frames - first)
            if count is not None:
                expected = min(expected, count)
            watch = _Watch(song.rate, expected, progress)
            writers = {
                name: stack.enter_context(audio.Writer(out, song.rate, song.channels, encoding, expected))
                for name, out in outputs.items()
            }
            # Told of blocks that come in, too: hours may be left out before the first goes out.
            stream = self.stream(watch.told(song.blocks(first, count)), song.rate)
            stream = watch.counted(_naming(path, stream))
            scale = 1.0
            if clip_mode == "rescale":
                output = Path(next(iter(outputs.values())))
                stream, scale = stack.enter_context(
                    _rescaled(stream, min(1.0, encoding.full_scale), output)
                )
                stream = watch.told(stream)
            samples = clipped = 0
            for stems in stream:
                beyond = {name: _count_beyond(stems[name], encoding) for name in writers}
                clipped += sum(beyond.values())
                if clipped and clip_mode == "none":
                    name = max(beyond, key=lambda name: beyond[name])
                    raise audio.AudioError(
                        f"{path}: {name} goes beyond full scale ({np.abs(stems[name]).max():.3f}), "
                        "which only float32 holds; or let it be clamped or rescaled"
                    )
                if encoding.bits:
                    vocals = stems["vocals"]
                    rounded = audio.quantise(vocals, encoding.bits)
                    # The rest takes up what rounding does to the voice; not what clipping does.
                    stems["no_vocals"] += np.where(np.abs(vocals) <= 1, vocals - rounded, 0)
                    stems["vocals"] = rounded
                for name, writer in writers.items():
                    writer.write(stems[name])
                samples += len(stems["vocals"])
            for writer in writers.values():  # all are complete before the first has its name
                writer.finish()
            return Separated(samples, song.rate, song.channels, clipped, scale)


def _in_samples(seconds: float, rate: int) -> int:
    """Seconds in samples, or more of them than any file has."""
    return round(min(seconds * rate, 2.0**62))


def _count_beyond(samples: np.ndarray, encoding: audio.Encoding) -> int:
    """How many samples are cut off when they are written, by more than rounding."""
    if math.isinf(encoding.full_scale):
        return 0
    half_a_step = 2.0**-encoding.bits if encoding.bits else 0.0
    beyond = (samples > encoding.full_scale + half_a_step) | (samples < -1 - half_a_step)
    return int(np.count_nonzero(beyond))


def _naming(
    path: str | os.PathLike[str], stream: Iterator[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """`stream`, its ValueErrors as AudioErrors of the file `path`."""
    try:
        yield from stream
    except ValueError as error:
        raise audio.AudioError(f"{path}: {error}") from error


class _Watch:
    """Tells `progress` how far a separation has come."""

    def __init__(self, rate: int, expected: int, progress: Callable[[float, float], None] | None):
        self._rate, self._expected, self._progress = rate, expected, progress
        self._done = 0

    def told(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """`items`; tells at each."""
        for item in items:
            self._tell()
            yield item

    def counted(self, stream: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """`stream`, whose samples are what is done; tells after each."""
        for stems in stream:
            yield stems
            self._done += len(stems["vocals"])
            self._tell()

    def _tell(self) -> None:
        if self._progress:
            total = max(self._done, self._expected) if self._expected else 0
            self._progress(self._done / self._rate, total / self._rate)


@contextlib.contextmanager
def _rescaled(
    stream: Iterator[dict[str, np.ndarray]], limit: float, output: Path
) -> Iterator[tuple[Iterator[dict[str, np.ndarray]], float]]:
    """`stream` multiplied by the factor that keeps it within `limit`, and the factor (at most 1.0).

    It waits in a nameless file beside `output` until the peak is known.
    """
    with contextlib.ExitStack() as stack:
        with _disk_errors(output):
            spool = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - closed below
        stack.callback(_close, spool)
        peak, channels = 0.0, 1
        for stems in stream:
            both = np.concatenate([stems[name] for name in STEMS], axis=1)
            peak = max(peak, float(np.abs(both).max(initial=0.0)))
            channels = stems["vocals"].shape[1]
            with _disk_errors(output):
                spool.write(both.tobytes())
        # The next float32 below: the peak is not to be rounded to beyond the limit.
        scale = float(np.nextafter(np.float32(limit / peak), np.float32(0))) if peak > limit else 1.0
        with _disk_errors(output):
            spool.seek(0)

        def scaled() -> Iterator[dict[str, np.ndarray]]:
            while data := spool.read(_SPOOL_BLOCK * 2 * channels * 4):
                both = np.frombuffer(data, np.float32).reshape(-1, 2 * channels) * np.float32(scale)
                yield dict(zip(STEMS, np.split(both, 2, axis=1), strict=True))

        yield scaled(), scale


def _close(file: IO[bytes]) -> None:
    """Close a file whose contents no longer matter: what a full disk did not take may be lost."""
    with contextlib.suppress(OSError):
        file.close()


@contextlib.contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    """Around what is done on the disk for the sake of `output`."""
    try:
        yield
    except OSError as error:
        raise audio.AudioError(f"{output}: cannot be written ({error.strerror})") from error


def apply_resampled_mask(
    mixture: np.ndarray,
    stft: spectral.Stft,
    mask_of: Callable[[np.ndarray], np.ndarray],
    *,
    sample_rate: int,
    mask_rate: int,
) -> np.ndarray:
    """`spectral.apply_mask` on a waveform of another rate than the mask's, resampled there and back.

    Args:
      mixture: float32 `[S, C]`.
      stft: the transform.
      mask_of: magnitudes `[C, F, N]` to a mask of that shape.
      sample_rate: Hz, of `mixture`.
      mask_rate: Hz, at which `stft` and `mask_of` work.

    Returns:
      float32 `[S, C]` at `sample_rate`.
    """
    inner = audio.resample(mixture, sample_rate, mask_rate)
    inner = audio.fit_length(inner, max(1, len(inner)))
    filtered = spectral.apply_mask(inner, stft, mask_of)
    return audio.fit_length(audio.resample(filtered, mask_rate, sample_rate), mixture.shape[0])
