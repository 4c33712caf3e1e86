"""The command that separates songs into vocals and the rest.

    vocalsep separate SONG... -o OUT
    python -m vocalsep_jax.separate SONG... --checkpoint RUN -o OUT

writes `OUT/<model>/<track>/vocals.wav` and `no_vocals.wav`.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

from vocalsep_jax.audio.files import SUFFIXES
from vocalsep_jax.runs.folder import RunError, find_run, package_versions
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging, terminated_as_interrupted
from vocalsep_jax.separation.arguments import (
    CHECKPOINT,
    add_output_options,
    add_separator_options,
    chosen_outputs,
    seconds_of,
    separator_options,
)
from vocalsep_jax.separation.batch import Batch, Settings
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.tracks import (
    FILENAME,
    Outputs,
    absolute,
    find_tracks,
    output_files,
    plan_outputs,
)

log = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep separate",
        description="Separate the singing voice of songs from the instruments. The stems have the rate, "
        "channels and length of the song, and sum to it where nothing clips (but for lossy formats and "
        "rescaled stems).",
        epilog="Exit code: 0 all songs done, 1 some failed, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument(
        "songs",
        nargs="+",
        metavar="SONG",
        help="audio and video files, folders of them, however deep, or patterns such as 'album/*.flac' "
        f"({', '.join(x[1:] for x in SUFFIXES)})",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="RUN",
        help=f"{CHECKPOINT} (the default one of those)",
    )
    parser.add_argument(
        "-o", "--out", default="separated", metavar="OUT", help="folder to write to (%(default)s)"
    )
    parser.add_argument(
        "--filename",
        default=FILENAME,
        help="of the outputs, below OUT/<model> (%(default)s)",
    )
    add_output_options(parser)
    parser.add_argument(
        "--start", type=_seconds, default=0.0, metavar="TIME", help="seconds or [h:]m:s (0)"
    )
    parser.add_argument(
        "--duration", type=_seconds, metavar="TIME", help="seconds or [h:]m:s (to the end of the song)"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave songs whose outputs are there")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="REPORT",
        help="file for what became of each song, and how long it took",
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="songs separated at once (%(default)s)")
    add_separator_options(parser)
    return parser


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # paths are printed as the file system has them
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors())
    options = _parser().parse_args(argv)
    with terminated_as_interrupted():
        try:
            return _run(options)
        except KeyboardInterrupt:
            log.error("interrupted")
            return 130


def _run(options: argparse.Namespace) -> int:
    try:
        stems, encoding = chosen_outputs(options)
        if options.jobs < 1:
            raise ValueError(f"--jobs must be at least 1, not {options.jobs}")
        if options.duration == 0:
            raise ValueError("--duration must be more than 0")
        folder = Path(options.out) / find_run(options.checkpoint).resolve().name
        names = [*output_files(options.filename, stems, "track", "ext", Path()).values()]
        if len(set(names)) < len(names):
            raise ValueError(f"--filename {options.filename!r}: {{stem}} has to be in it")
        tracks = list(dict.fromkeys(find_tracks(options.songs, folder)))  # named twice, separated once
        inputs = {key: song for song, _ in tracks if (key := disk.identity(song))}
        planned = plan_outputs(tracks, options.filename, stems, encoding.container, folder)
        _check_report(options.json, inputs, planned)

        from vocalsep_jax.runtime.compile_cache import use_compile_cache

        use_compile_cache()
        separator = Separator(options.checkpoint, **separator_options(options))
    except (RunError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    settings = Settings(
        encoding,
        options.clip_mode,
        options.start,
        options.duration,
        options.skip_existing,
        options.jobs,
    )
    batch = Batch(separator, settings, inputs, len(tracks))
    entries = batch.separate_all(planned)
    failed = sum(entry["status"] == "failed" for entry in entries)
    if batch.stopping.is_set():
        log.error("interrupted: %d of %d songs done", len(entries) - failed, len(tracks))
    elif failed:
        log.error("%d of %d songs failed", failed, len(tracks))
    if options.json:
        try:
            _write_report(options, separator, entries)
        except OSError as error:
            log.error("error: %s: cannot be written (%s)", one_line(str(options.json)), error.strerror)
            failed += 1
    return 130 if batch.stopping.is_set() else 1 if failed else 0


def _check_report(
    report: Path | None,
    inputs: dict[tuple[int, int], Path],
    planned: Sequence[tuple[Path, Outputs | str]],
) -> None:
    """Raise ValueError if the report would take the place of a song or of an output."""
    if report is None:
        return
    written = {absolute(p) for _, outputs in planned if isinstance(outputs, dict) for p in outputs.values()}
    if not report.name or disk.identity(report) in inputs or absolute(report) in written:
        raise ValueError(f"--json {str(report)!r}: is no file, or one of the songs or outputs")


def _write_report(options: argparse.Namespace, separator: Separator, entries: list[dict[str, Any]]) -> None:
    """Write what became of the songs; raises OSError."""
    content = {
        "model": separator.name,
        "step": separator.step,
        "model_sample_rate": separator.sample_rate,
        "options": {name: value for name, value in vars(options).items() if name not in ("songs", "json")},
        "versions": package_versions(),
        "songs": entries,
    }
    # File names may be no text: the report has them as Python does, with surrogates escaped.
    disk.write_text(options.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
