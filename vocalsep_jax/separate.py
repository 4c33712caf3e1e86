"""Separate songs into vocals and the rest: `Separator`, and the command over it.

    python -m vocalsep_jax.separate SONG... --checkpoint RUN -o OUT

writes `OUT/<model>/<track>/vocals.wav` and `no_vocals.wav`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vocalsep_jax.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax import audio, runs, spectral, streaming
from vocalsep_jax.console import one_line, start_logging

# jax, and what needs it, is imported by Separator: `--help` and usage errors should not wait for it.

STEMS = ("vocals", "no_vocals")

_SIXTEEN_BIT = audio.Encoding()
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

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[dict[str, np.ndarray]]:
        """Separate a waveform that comes in blocks, in memory that does not depend on its length.

        Args:
          blocks: float32 `[S, C]` each, S from 0 on, one after the other; all with the same C.
          sample_rate: Hz.

        Yields:
          `vocals` and `no_vocals` of the next samples, float32 `[S', C]` each, as soon as they are final.
          In the end they are as many as came, and do not depend on how the waveform was cut into blocks.

        Raises:
          ValueError: if a block holds NaN, infinity, or numbers too large to compute with.
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

        for block in blocks:
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
        self,
        path: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        encoding: audio.Encoding = _SIXTEEN_BIT,
    ) -> dict[str, Path]:
        """Separate a file into `OUT/<model>/<track>/{vocals,no_vocals}.wav`; see `separate_to`.

        Returns:
          The file written for each stem.
        """
        folder = Path(out) / self.name / Path(path).stem
        outputs = {name: folder / f"{name}.{encoding.container}" for name in STEMS}
        self.separate_to(path, outputs, encoding=encoding)
        return outputs

    def separate_to(
        self,
        path: str | os.PathLike[str],
        outputs: Mapping[str, str | os.PathLike[str]],
        *,
        encoding: audio.Encoding = _SIXTEEN_BIT,
        progress: Callable[[float, float], None] | None = None,
    ) -> float:
        """Separate a file into files, in memory that does not depend on its length.

        Rate, channels and length are the input's. Integer stems of an input with as many bits sum to it
        exactly where none of them clips.

        Args:
          path: the song.
          outputs: where each stem goes; some of `STEMS`, or all.
          encoding: of the outputs.
          progress: called with the seconds that are done and those there are in all.

        Returns:
          Seconds of the song.

        Raises:
          AudioError: if the input cannot be used or an output cannot be written; then there are no outputs.
          ValueError: if there is no such stem.
        """
        if unknown := [name for name in outputs if name not in STEMS]:
            raise ValueError(f"stems are {', '.join(STEMS)}, not {unknown[0]!r}")
        done = 0
        with audio.Reader(path) as song, contextlib.ExitStack() as stack:
            writers = {
                name: stack.enter_context(
                    audio.Writer(out, song.rate, song.channels, encoding, song.frames)
                )
                for name, out in outputs.items()
            }
            for stems in _naming(path, self.stream(song.blocks(), song.rate)):
                if encoding.bits:
                    mixture = stems["vocals"] + stems["no_vocals"]
                    stems["vocals"] = audio.quantise(stems["vocals"], encoding.bits)
                    stems["no_vocals"] = mixture - stems["vocals"]
                for name, writer in writers.items():
                    writer.write(stems[name])
                done += len(stems["vocals"])
                if progress:
                    progress(done / song.rate, max(done, song.frames) / song.rate)
            return done / song.rate


def _naming(
    path: str | os.PathLike[str], stream: Iterator[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """`stream`, its ValueErrors as AudioErrors of the file `path`."""
    try:
        yield from stream
    except ValueError as error:
        raise audio.AudioError(f"{path}: {error}") from error


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
    parser.add_argument(
        "songs",
        nargs="+",
        metavar="SONG",
        help=f"audio files ({', '.join(x[1:] for x in audio.SUFFIXES)}), or folders of them, however deep",
    )
    parser.add_argument(
        "--checkpoint", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it"
    )
    parser.add_argument(
        "-o", "--out", default="separated", metavar="OUT", help="folder to write to (%(default)s)"
    )
    parser.add_argument(
        "--filename",
        default="{track}/{stem}.{ext}",
        help="of the outputs, below OUT/<model> (%(default)s)",
    )
    parser.add_argument(
        "--stems", default=",".join(STEMS), help="which to write, with commas between (%(default)s)"
    )
    container = parser.add_mutually_exclusive_group()
    for name in ("wav", "flac", "ogg", "mp3"):
        default = ", the default" if name == "wav" else ""
        container.add_argument(
            f"--{name}", dest="container", action="store_const", const=name, help=f"write {name}{default}"
        )
    sample = parser.add_mutually_exclusive_group()
    for name, what in (("int16", "16-bit, the default"), ("int24", "24-bit"), ("float32", "32-bit float")):
        sample.add_argument(
            f"--{name}", dest="sample", action="store_const", const=name, help=f"{what} samples (wav, flac)"
        )
    parser.add_argument("--skip-existing", action="store_true", help="leave songs whose outputs are there")
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="overlap of patches, 0 to below 1 (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="patches predicted at once (%(default)s)")
    parser.add_argument("-d", "--device", help="cpu, gpu or tpu (the best there is)")
    return parser


def _tracks(songs: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Files and their track names: those given, and those in folders given, by their place in there."""
    for song in songs:
        path = Path(song)
        if not song:  # an empty variable of a shell, say; as a path it would be the folder we are in
            raise ValueError("a song's name is empty")
        try:
            is_folder = path.is_dir()
        except OSError:  # as for a name that is too long; reading it says so
            is_folder = False
        if not is_folder:
            yield path, path.stem
            continue
        within = sorted(p for p in path.rglob("*") if p.suffix.lower() in audio.SUFFIXES and p.is_file())
        if not within:
            raise ValueError(f"{song}: no audio files in this folder")
        for file in within:
            yield file, file.relative_to(path).with_suffix("").as_posix()


def _outputs(options: argparse.Namespace, folder: Path, track: str, ext: str) -> dict[str, Path]:
    """Where each stem of a track goes.

    Raises:
      ValueError: if the template or the track make that no file below `folder`.
    """
    try:
        names = {
            stem: Path(options.filename.format(track=track, stem=stem, ext=ext))
            for stem in options.stems.split(",")
        }
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--filename {options.filename!r}: only {{track}}, {{stem}} and {{ext}} are filled in"
        ) from error
    for name in names.values():
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise ValueError(f"--filename {options.filename!r}: {str(name)!r} is no file below {folder}")
    return {stem: folder / name for stem, name in names.items()}


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is by any name: its device and inode; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


class _Bar:
    """The progress of a song on one line of a terminal."""

    def __init__(self, title: str):
        self._title = title
        self._begin, self._shown = time.monotonic(), 0.0

    def show(self, done: float, total: float) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._shown < 0.2:
            return
        self._shown = now
        speed = done / (now - self._begin)
        left = (total - done) / speed
        line = f"{self._title}: {100 * done / total:3.0f} %  {speed:.1f} x real time  {left:.0f} s left"
        sys.stderr.write(f"\r{line[:100]:100}")
        if done == total:
            sys.stderr.write(f"\r{'':100}\r")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # paths are printed as the file system has them
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors())
    options = _parser().parse_args(argv)
    container = options.container or "wav"
    lossless = container in ("wav", "flac")
    try:
        encoding = audio.Encoding(container, options.sample or ("int16" if lossless else None))
        if unknown := set(options.stems.split(",")) - set(STEMS):
            raise ValueError(f"--stems: there are {', '.join(STEMS)}, no {unknown.pop()!r}")
        tracks = list(_tracks(options.songs))
        names = [*_outputs(options, Path(), "track", "ext").values()]
        if len(set(names)) < len(names):
            raise ValueError(f"--filename {options.filename!r}: {{stem}} has to be in it")

        from vocalsep_jax.compile_cache import use_compile_cache

        use_compile_cache()
        separator = Separator(
            options.checkpoint,
            overlap=options.overlap,
            batch_size=options.batch_size,
            device=options.device,
        )
    except (runs.RunError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    inputs = {_identity(song): song for song, _ in tracks}
    taken: dict[Path, Path] = {}
    failed = 0
    for number, (song, track) in enumerate(tracks, start=1):
        title = one_line(str(song))
        begin = time.monotonic()
        try:
            try:
                outputs = _outputs(options, Path(options.out) / separator.name, track, container)
            except ValueError as error:
                raise audio.AudioError(f"{song}: {error}") from error
            for output in outputs.values():
                if (earlier := taken.setdefault(output, song)) is not song:
                    raise audio.AudioError(f"{song}: its output would overwrite that of {earlier}")
            there = {output: key for output in outputs.values() if (key := _identity(output))}
            if options.skip_existing and len(there) == len(outputs):
                log.info("[%d/%d] %s: there already", number, len(tracks), title)
                continue
            for key in there.values():
                if key in inputs:
                    which = inputs[key] if inputs[key] != song else "it"
                    raise audio.AudioError(f"{song}: its output would overwrite {which}")
            bar = _Bar(title)
            length = separator.separate_to(song, outputs, encoding=encoding, progress=bar.show)
        except audio.AudioError as error:
            failed += 1
            log.error("error: %s", error)
            continue
        seconds = time.monotonic() - begin
        speed = length / seconds
        log.info("[%d/%d] %s: %.1f s, %.1f x real time", number, len(tracks), title, seconds, speed)
        print(*outputs.values(), sep="\n", flush=True)
    if failed:
        log.error("%d of %d songs failed", failed, len(tracks))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
