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
    StatusLine,
    how_far,
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


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)
    line, begin = StatusLine(), time.monotonic()

    def progress(done: float, total: float, songs: int, of: int) -> None:
        if line.due():
            line.show(f"[{songs}/{of}] {how_far(done, total, time.monotonic() - begin)}")

    with terminated_as_interrupted():
        try:
            picture = _checked(options)
            examination = examine(
                _expanded(options.folder),
                instrumentals=options.instrumentals and _expanded(options.instrumentals),
                jobs=options.jobs,
                progress=progress,
            )
            line.clear()
            say(as_text(examination))
            _write(examination, options.json, picture)
        except (SongError, ValueError, OSError) as error:
            log.error("error: %s", one_line(str(error)))
            return 2
        except KeyboardInterrupt:
            line.clear()
            log.error("interrupted")
            return 130
    return 0 if examination.fit else 1


def _expanded(path: Path) -> Path:
    """A path with a home folder in the place of `~`; raises ValueError if there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


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
