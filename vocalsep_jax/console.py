"""What the commands write to the terminal: messages to standard error, results to standard output."""

from __future__ import annotations

import logging
import sys


def start_logging(format: str = "%(message)s") -> None:
    """Show messages of level INFO and above on standard error."""
    logging.basicConfig(
        level=logging.INFO,
        format=format,
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every platform that is absent
