"""Examine a folder of songs before training on it.

    vocalsep data check FOLDER
    python -m vocalsep_jax.data_tools check FOLDER

says what it holds and what is wrong with it. Nothing in the folder is changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vocalsep_jax.audio.files import SUFFIXES
from vocalsep_jax.data.check.examination import Examination, examine
from vocalsep_jax.data.check.table import as_text
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import (
    duration,
    one_line,
    say,
    start_logging,
    terminated_as_interrupted,
)

log = logging.getLogger(__name__)

_PICTURE = "songs.png"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vocalsep data", description="Look after folders of songs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="say what a folder of songs holds, and what is wrong with it",
        description="Say what a folder of songs holds, and whether it is fit to train on: damaged files, "
        "stems that do not belong together, clipping and the like, and songs of the test or validation set "
        "that are in the training set under any name.",
        epilog="Exit code: 0 fit to train on (there may be warnings), 1 not fit, 2 wrong usage or no such "
        "folder, 130 interrupted.",
    )
    check.add_argument("folder", type=Path, metavar="FOLDER", help="the folder that holds the songs")
    check.add_argument(
        "--instrumentals", type=Path, metavar="FOLDER", help="music without a voice, trained on too"
    )
    check.add_argument("-j", "--jobs", type=int, default=1, help="songs measured at once (%(default)s)")
    check.add_argument("--json", type=Path, metavar="FILE", help="file for all that was found")
    check.add_argument(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help=f"file for a picture of the songs, or a folder for {_PICTURE} in it",
    )
    return parser


class _Progress:
    """How far the examination is: a line of a terminal; elsewhere, a line a minute."""

    def __init__(self) -> None:
        self._begin = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 60.0

    def __call__(self, done: float, total: float, songs: int, of: int) -> None:
        """Show seconds read, of `total`, and songs done, of `of`."""
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        speed = done / (now - self._begin)
        left = f"  {duration(max(0.0, total - done) / speed)} left" if total and speed else ""
        share = f"{min(100.0, 100 * done / total):3.0f} %  " if total else ""
        self._write(f"[{songs}/{of}] {share}{speed:.0f} x real time{left}")

    def finish(self) -> None:
        """Take the line off a terminal."""
        if self._terminal:
            self._write("")

    def _write(self, line: str) -> None:
        if not self._terminal:
            log.info("%s", line)
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{line[:width]:{width}}" + ("" if line else "\r"))
        sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)
    progress = _Progress()
    with terminated_as_interrupted():
        try:
            picture = _checked(options)
            examination = examine(
                options.folder.expanduser(),
                instrumentals=options.instrumentals and options.instrumentals.expanduser(),
                jobs=options.jobs,
                progress=progress,
            )
            progress.finish()
            say(as_text(examination))
            _write(examination, options.json, picture)
        except (SongError, ValueError, OSError) as error:
            log.error("error: %s", one_line(str(error)))
            return 2
        except KeyboardInterrupt:
            progress.finish()
            log.error("interrupted")
            return 130
    return 0 if examination.fit else 1


def _checked(options: argparse.Namespace) -> Path | None:
    """The picture's file, if one is wanted; raises ValueError for options that cannot be."""
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {options.jobs}")
    report: Path | None = options.json
    if report and (not report.name or report.is_dir() or report.suffix.lower() in SUFFIXES):
        raise ValueError(f"--json {str(report)!r}: is a folder, or would be an audio file")
    picture: Path | None = options.picture
    if picture is None:
        return None
    if picture.is_dir():
        picture = picture / _PICTURE
    elif picture.suffix.lower() != ".png":
        raise ValueError(f"--picture {str(picture)!r}: must be a .png file, or a folder that is there")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--picture needs matplotlib: pip install 'vocalsep_jax[train]'")
    return picture


def _write(examination: Examination, report: Path | None, picture: Path | None) -> None:
    """Write what was asked for; raises ValueError if that fails."""
    path = report
    try:
        if report:
            # File names may be no text: the report has them as Python does, with surrogates escaped.
            disk.write_text(report, json.dumps(examination.as_json(), indent=2, allow_nan=False) + "\n")
        if picture:
            from vocalsep_jax.data.check import figure

            path = picture
            figure.save(examination, picture)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
