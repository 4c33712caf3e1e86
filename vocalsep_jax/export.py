"""Write a trained model for use elsewhere: a folder that needs nothing of the run it came from.

    vocalsep export RUN MODEL/

`MODEL/` holds the weights and the config, which `--checkpoint` takes; a program that separates with nothing
but jax and flatbuffers installed; and what one should know of the model, in `model.json` and `README.md`.
With `--weights-only --dtype float16` it is small: the models that come with this package are such folders.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

from vocalsep_jax.runs.exported import WEIGHT_DTYPES
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime.console import one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separation import MODEL_LICENCE
from vocalsep_jax.separation.arguments import add_separator_options

log = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep export",
        description="Write a trained model for use elsewhere.",
        epilog="Exit code: 0 done, 2 wrong usage or a model that cannot be exported, 130 interrupted.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run's folder, or a checkpoint in it")
    parser.add_argument("folder", metavar="MODEL", type=Path, help="folder to write")
    parser.add_argument("--weights-only", action="store_true", help="leave the program out")
    parser.add_argument(
        "--dtype",
        choices=WEIGHT_DTYPES,
        default="float32",
        help="of the weights in the file; float16 takes half the space (%(default)s)",
    )
    program = parser.add_argument_group("of the program")
    add_separator_options(program, "overlap", "batch_size", "wiener")
    parser.add_argument(
        "--licence", default=MODEL_LICENCE, help="of the weights, for their users (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)

    from vocalsep_jax.runtime.compile_cache import use_compile_cache
    from vocalsep_jax.separation.export import export_model

    use_compile_cache()
    try:
        with terminated_as_interrupted():
            facts = export_model(
                options.checkpoint,
                options.folder,
                program=not options.weights_only,
                dtype=options.dtype,
                overlap=options.overlap,
                batch_size=options.batch_size,
                wiener=options.wiener,
                licence=options.licence,
            )
    except (RunError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    log.info("its stems differ from the run's by %.1g", facts["weights"]["largest_difference"])
    if "program" in facts:
        log.info("the program's differ from its by %.1g", facts["program"]["largest_difference"])
    say(str(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
