"""What the commands write to the terminal: messages to standard error, results to standard output."""

from __future__ import annotations

import logging
import sys
import unicodedata


def start_logging(format: str = "%(message)s") -> None:
    """Show messages of level INFO and above on standard error."""
    logging.basicConfig(
        level=logging.INFO,
        format=format,
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every platform that is absent


def one_line(text: str) -> str:
    """`text` with escapes for what ends a line or commands a terminal, as file names may."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )
