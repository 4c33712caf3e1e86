"""The command that separates a catalogue of songs on an engine that runs Apache Beam pipelines.

    vocalsep catalogue INPUT... -o OUT -- --runner=FlinkRunner --flink_master=HOST:8081
    python -m vocalsep_jax.catalogue INPUT... --checkpoint RUN -o OUT

writes `OUT/<model>/<track>/vocals.wav` and `no_vocals.wav`, and what failed to the dead-letter file.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

from vocalsep_jax.audio.files import SUFFIXES
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime.beam_flags import pipeline_options
from vocalsep_jax.runtime.console import one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separation.arguments import (
    CHECKPOINT,
    add_output_options,
    add_separator_options,
    chosen_outputs,
    separator_options,
)
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.tracks import absolute

log = logging.getLogger(__name__)

_DEAD_LETTER = "dead-letter.jsonl"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep catalogue",
        usage="%(prog)s INPUT... [-o OUT] [--checkpoint RUN] [option ...] [-- BEAM_FLAG ...]",
        description="Separate many songs on an engine that runs Apache Beam pipelines: this machine, "
        "Flink, Spark or Dataflow. Songs whose outputs are there are left out: the same command goes on "
        "after it was ended.",
        epilog="Flags after -- are Beam's: --runner, and those of the runner. Exit code: 0 all songs done, "
        "1 some failed, or the pipeline did, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="songs, folders of them, however deep, or patterns, on any file system that Beam knows "
        f"({', '.join(x[1:] for x in SUFFIXES)})",
    )
    parser.add_argument("--checkpoint", metavar="RUN", help=f"{CHECKPOINT} (the default one of those)")
    parser.add_argument(
        "-o", "--out", default="separated", metavar="OUT", help="folder to write to (%(default)s)"
    )
    parser.add_argument(
        "--dead-letter",
        metavar="FILE",
        help=f"for the songs that failed, and why: JSON lines (OUT/{_DEAD_LETTER})",
    )
    add_output_options(parser)
    add_separator_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    with terminated_as_interrupted():
        try:
            return _run(options, given[end + 1 :])
        except (RunError, ValueError) as error:
            log.error("error: %s", one_line(str(error)))
            return 2
        except KeyboardInterrupt:
            log.error("interrupted")
            return 130


def _run(options: argparse.Namespace, flags: Sequence[str]) -> int:
    """The exit code; raises as `main` catches."""
    stems, encoding = chosen_outputs(options)
    if not all(options.inputs):
        raise ValueError("an input's name is empty")
    beam_options = pipeline_options(flags)

    from vocalsep_jax.separation import catalogue

    inputs = [catalogue.located(name) for name in options.inputs]
    out = catalogue.located(options.out)
    dead_letter = catalogue.located(options.dead_letter or f"{out}/{_DEAD_LETTER}")
    if Path(dead_letter).is_dir() or Path(dead_letter).suffix.lower() in SUFFIXES:
        raise ValueError(f"--dead-letter {dead_letter!r}: is a folder, or would be an audio file")
    settings = separator_options(options)
    # Loaded once here, on whatever there is: what is wrong with it, or with the options, is told now.
    model = Separator(options.checkpoint, **settings | {"device": None}).name
    checkpoint = options.checkpoint
    if checkpoint and Path(checkpoint).exists():  # not the name of a model that comes with the package
        checkpoint = str(absolute(Path(checkpoint)))
    job = catalogue.Job(checkpoint, settings, f"{out}/{model}", stems, encoding, options.clip_mode)
    pipeline = catalogue.planned(beam_options, inputs, dead_letter, job)
    begin = time.monotonic()
    try:
        counts = catalogue.run(pipeline)
    except Exception as error:  # engines raise errors of many kinds
        log.error("error: the pipeline failed: %s", one_line(str(error).strip().splitlines()[-1]))
        return 1
    say(counts.text(time.monotonic() - begin))
    if counts.failed:
        total = counts.done + counts.skipped + counts.failed
        log.error("%d of %d songs failed: %s", counts.failed, total, one_line(dead_letter))
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
