"""A case of the fuzz: something hostile or damaged, how it is read, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzzing import Chances


@dataclass
class Case(Chances):
    """One call of a reader, and what is known of it.

    Attributes:
      rng: all its random numbers; their order makes the case.
      templates: sound files of every kind, to be copied.
      folder: all its files are in here.
      kinds: what it is about, for the counts.
      outcome: what came of it, for the counts.
      problems: what was found to be wrong.
    """

    rng: np.random.Generator
    templates: Path
    folder: Path
    kinds: list[str] = field(default_factory=list)
    outcome: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def canary(self) -> Path:
        """What is made if something in a file is executed."""
        return self.folder / "executed"


def _anything(_: Any) -> None:
    return None


@dataclass
class Attempt:
    """A call that a case is about.

    Attributes:
      call: the call.
      errors: what it may raise.
      check: says what is wrong with what it gives; None if nothing is.
      must_fail: whether nothing but an error is right.
    """

    call: Callable[[], Any]
    errors: tuple[type[Exception], ...]
    check: Callable[[Any], str | None] = _anything
    must_fail: bool = False
