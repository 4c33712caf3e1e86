"""Separate songs into vocals and the rest: `Separator`, and the command over it.

    python -m vocalsep_jax.separate SONG... --checkpoint RUN -o OUT

writes `OUT/<model>/<track>/vocals.wav` and `no_vocals.wav`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vocalsep_jax.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax import audio, runs, spectral, streaming
from vocalsep_jax.console import start_logging

# jax, and what needs it, is imported by Separator: `--help` and usage errors should not wait for it.

STEMS = ("vocals", "no_vocals")
log = logging.getLogger(__name__)


class Separator:
    """Separates waveforms with a trained network.

    Attributes:
      name: of the model: the run's folder name.
      sample_rate: the network's, in Hz. Other rates are resampled on the way in and out.
      stft: the network's transform.
      step: training step of the checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        *,
        overlap: float = 0.5,
        batch_size: int = 8,
        device: str | None = None,
    ):
        """Load a checkpoint.

        Args:
          checkpoint: a run (its best checkpoint, else its latest) or a checkpoint folder.
          overlap: share of a patch that overlaps the next, in [0, 1). More is smoother and slower.
          batch_size: patches predicted at once. Does not change the result.
          device: platform to run on (`cpu`, `gpu`, `tpu`); JAX's default if None.

        Raises:
          RunError: if the checkpoint cannot be used.
          ValueError: if an option is out of range or there is no such device.
        """
        import jax

        from vocalsep_jax import checkpoints
        from vocalsep_jax.models.unet import unet_from_config

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        spectral.patch_step(1, overlap)  # checks the range
        run = runs.find_run(checkpoint)
        config = runs.read_config(run)["config"]
        self.name = run.resolve().name
        self.sample_rate: int = config["audio"]["sample_rate"]
        self.stft = spectral.Stft(config["audio"]["n_fft"], config["audio"]["hop"])
        self._frames: int = config["audio"]["patch_frames"]
        self._overlap, self._batch = overlap, batch_size

        model = unet_from_config(config)
        patch = jax.ShapeDtypeStruct((batch_size, self.stft.bins, self._frames), np.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), patch)
        variables, self.step = checkpoints.restore_model(Path(checkpoint), shapes)
        try:
            place = jax.devices(device)[0]
        except RuntimeError as error:
            raise ValueError(f"no device {device!r}: {str(error).splitlines()[0]}") from error
        self._variables = jax.device_put(variables, place)
        self._apply = jax.jit(model.apply)

    def separate(self, samples: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Separate a waveform.

        Args:
          samples: `[S, C]` or `[S]`, any real dtype, full scale 1.0, finite; any number of channels, each
            filtered by a mask of its own.
          sample_rate: Hz.

        Returns:
          `vocals` and `no_vocals`, float32, shaped as `samples`; they sum to it.

        Raises:
          ValueError: if the input is not 1- or 2-dimensional, empty, or not finite.
        """
        mixture = np.asarray(samples, np.float32)
        if mixture.ndim not in (1, 2) or 0 in mixture.shape:
            raise ValueError(f"a waveform is [S] or [S, C] and not empty, got {mixture.shape}")
        columns = mixture.reshape(len(mixture), -1)
        vocals = np.concatenate([block["vocals"] for block in self.stream([columns], sample_rate)])
        vocals = vocals.reshape(mixture.shape)
        return {"vocals": vocals, "no_vocals": mixture - vocals}

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[dict[str, np.ndarray]]:
        """Separate a waveform that comes in blocks, in memory that does not depend on its length.

        Args:
          blocks: float32 `[S, C]` each, S from 0 on, one after the other; all with the same C.
          sample_rate: Hz.

        Yields:
          `vocals` and `no_vocals` of the next samples, float32 `[S', C]` each, as soon as they are final.
          In the end they are as many as came, and do not depend on how the waveform was cut into blocks.

        Raises:
          ValueError: if a block holds NaN or infinity.
        """
        voice: streaming.VoiceStream | None = None
        waiting: list[np.ndarray] = []  # of the mixture, until the voice in it is final

        def stems(vocals: np.ndarray) -> dict[str, np.ndarray]:
            nonlocal waiting
            mixture = np.concatenate(waiting)
            now, later = mixture[: len(vocals)], mixture[len(vocals) :]
            waiting = [later]
            return {"vocals": vocals, "no_vocals": now - vocals}

        for block in blocks:
            if not np.isfinite(block).all():
                raise ValueError("the waveform holds NaN or infinity")
            if voice is None:
                voice = self._voice_stream(block.shape[1], sample_rate)
            waiting.append(block)
            vocals = voice.push(block)
            if len(vocals):
                yield stems(vocals)
        if voice is not None and waiting:
            yield stems(voice.finish())

    def _voice_stream(self, channels: int, sample_rate: int) -> streaming.VoiceStream:
        mask_filter = streaming.MaskFilter(
            self.stft,
            lambda batch: np.asarray(self._apply(self._variables, batch)),
            channels=channels,
            patch_frames=self._frames,
            batch_size=self._batch,
            overlap=self._overlap,
        )
        return streaming.VoiceStream(mask_filter, sample_rate, self.sample_rate, channels)

    def separate_file(
        self, path: str | os.PathLike[str], out: str | os.PathLike[str], *, float32: bool = False
    ) -> dict[str, Path]:
        """Separate a file into `OUT/<model>/<track>/{vocals,no_vocals}.wav`.

        Rate, channels and length are the input's. 16-bit stems of a 16-bit input sum to it exactly
        where none of them clips.

        Args:
          path: the song.
          out: folder OUT.
          float32: write 32-bit float samples instead of 16-bit integers.

        Returns:
          The file written for each stem.

        Raises:
          AudioError: if the input cannot be used or an output cannot be written.
        """
        mixture, rate = audio.read(path)
        stems = self.separate(mixture, rate)
        if not float32:
            stems["vocals"] = audio.quantise(stems["vocals"])
            stems["no_vocals"] = mixture - stems["vocals"]
        folder = Path(out) / self.name / Path(path).stem
        written = {}
        for name, samples in stems.items():
            written[name] = folder / f"{name}.wav"
            audio.write_wav(written[name], samples, rate, "FLOAT" if float32 else "PCM_16")
        return written


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vocalsep_jax.separate",
        description="Separate the singing voice of songs from the instruments.",
        epilog="Exit code: 0 all songs done, 1 some failed, 2 wrong usage.",
    )
    parser.add_argument("songs", nargs="+", metavar="SONG", help="audio files (wav, flac, ogg, mp3)")
    parser.add_argument(
        "--checkpoint", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it"
    )
    parser.add_argument(
        "-o", "--out", default="separated", metavar="OUT", help="folder to write to (%(default)s)"
    )
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="overlap of patches, 0 to below 1 (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="patches predicted at once (%(default)s)")
    parser.add_argument("--float32", action="store_true", help="write 32-bit float, not 16-bit")
    parser.add_argument("-d", "--device", help="cpu, gpu or tpu (the best there is)")
    return parser


def _tracks(songs: Sequence[str]) -> list[tuple[str, str | None]]:
    """Each song with, where its output would fall on that of an earlier one, that earlier song."""
    first: dict[str, str] = {}
    return [(s, None if (f := first.setdefault(Path(s).stem, s)) is s else f) for s in songs]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)
    from vocalsep_jax.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        separator = Separator(
            options.checkpoint,
            overlap=options.overlap,
            batch_size=options.batch_size,
            device=options.device,
        )
    except (runs.RunError, ValueError) as error:
        log.error("error: %s", error)
        return 2
    failed = 0
    for number, (song, clash) in enumerate(_tracks(options.songs), start=1):
        begin = time.monotonic()
        try:
            if clash:
                raise audio.AudioError(f"{song}: its output would overwrite that of {clash}")
            written = separator.separate_file(song, options.out, float32=options.float32)
        except audio.AudioError as error:
            failed += 1
            log.error("error: %s", error)
            continue
        seconds = time.monotonic() - begin
        log.info("[%d/%d] %s: %.1f s", number, len(options.songs), song, seconds)
        print(*written.values(), sep="\n")
    if failed:
        log.error("%d of %d songs failed", failed, len(options.songs))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
