"""The command-line options of a `Separator` and of its outputs, for all commands that have them."""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

from vocalsep_jax.audio.encoding import CONTAINERS, Encoding
from vocalsep_jax.models import DTYPES
from vocalsep_jax.separation.separator import OVERLAP
from vocalsep_jax.separation.stem_files import CLIP_MODES, STEMS

CHECKPOINT = (
    "a run's folder, a checkpoint in it, an exported model, or the name of one that `vocalsep models` lists"
)
"""What `--checkpoint` takes, for its help."""

_ARGUMENTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "overlap": (
        ["--overlap"],
        {
            "type": float,
            "default": OVERLAP,
            "help": "overlap of patches, 0 to below 1 (%(default)s)",
        },
    ),
    "shifts": (
        ["--shifts"],
        {"type": int, "default": 1, "help": "average so many separations, shifted (%(default)s)"},
    ),
    "wiener": (
        ["--wiener"],
        {
            "action": "store_true",
            "help": "refine what a stereo model gives by a multichannel Wiener filter",
        },
    ),
    "batch_size": (
        ["--batch-size"],
        {"type": int, "default": 8, "help": "patches predicted at once (%(default)s)"},
    ),
    "dtype": (
        ["--dtype"],
        {"choices": DTYPES, "help": "of the network's activations (as it was trained)"},
    ),
    "device": (["-d", "--device"], {"help": "cpu, gpu or tpu (the best there is)"}),
}

SEPARATOR_OPTIONS = tuple(_ARGUMENTS)
"""The keyword arguments of `Separator` that can be given."""


def add_separator_options(parser: argparse._ActionsContainer, *names: str) -> None:
    """Add those named, of `SEPARATOR_OPTIONS`, to a parser or a group of one; all if none is named."""
    for name in names or SEPARATOR_OPTIONS:
        flags, settings = _ARGUMENTS[name]
        parser.add_argument(*flags, **settings)


def separator_options(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments for `Separator`, of a parser that has all of its options."""
    return {name: getattr(options, name) for name in SEPARATOR_OPTIONS}


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add those that say which stems are written, and how."""
    stems = parser.add_mutually_exclusive_group()
    stems.add_argument(
        "--stems", default=",".join(STEMS), help="which to write, with commas between (%(default)s)"
    )
    stems.add_argument(
        "--two-stems", choices=STEMS[:1], help="the same as --stems vocals,no_vocals, the default"
    )
    container = parser.add_mutually_exclusive_group()
    for number, name in enumerate(CONTAINERS):
        default = "" if number else ", the default"
        container.add_argument(
            f"--{name}", dest="container", action="store_const", const=name, help=f"write {name}{default}"
        )
    sample = parser.add_mutually_exclusive_group()
    for name, what in (
        ("int16", "16-bit samples, the default (wav, flac)"),
        ("int24", "24-bit samples (wav, flac)"),
        ("float32", "32-bit float samples (wav)"),
    ):
        sample.add_argument(f"--{name}", dest="sample", action="store_const", const=name, help=what)
    parser.add_argument(
        "--bitrate", type=int, metavar="KBPS", help="of mp3 (320, or the most there is) or ogg (192)"
    )
    parser.add_argument(
        "--clip-mode",
        choices=CLIP_MODES,
        default="clamp",
        help="what becomes of samples beyond full scale: clamp them there, rescale both stems by one "
        "factor, or none: refuse (%(default)s; float32 holds them)",
    )


def chosen_outputs(options: argparse.Namespace) -> tuple[list[str], Encoding]:
    """The stems to write and their encoding; raises ValueError if there are none such."""
    stems = options.stems.split(",")
    if unknown := set(stems) - set(STEMS):
        raise ValueError(f"--stems: there are {', '.join(STEMS)}, no {unknown.pop()!r}")
    return stems, Encoding.of(options.container, options.sample, options.bitrate)


def seconds_of(text: str) -> float:
    """`90`, `1:30` or `0:01:30.0` in seconds; raises ValueError if it is no time."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    seconds = functools.reduce(lambda total, part: 60 * total + part, parts, 0.0)
    if not 1 <= len(parts) <= 3 or not all(part >= 0 for part in parts) or not seconds < math.inf:
        raise ValueError(f"not a time: {text!r}")
    return seconds
