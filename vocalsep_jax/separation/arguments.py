"""The command-line options of a `Separator`, for all commands that make one."""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

from vocalsep_jax.models import DTYPES
from vocalsep_jax.separation.separator import OVERLAP

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
