"""Fuzz the separation command: many generated calls, each checked for what the command promises.

    python -m tools.fuzz_separate --count 2000 --seed 0

runs `vocalsep_jax.separate.main` in this process with a tiny random network on files of every kind, good
and damaged, and random options. A case depends on nothing but its seed: `--count 1 --seed S` repeats
case S. The exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tools.fuzz_separate.cases import Case
from tools.fuzz_separate.running import fuzz
from tools.fuzzing import finish, parser


def main() -> int:
    """The command; returns its exit code."""
    options = parser("python -m tools.fuzz_separate", __doc__, 2000).parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # the command's messages are looked at, not shown

    def report(number: int, case: Case) -> None:
        for problem in case.problems:
            print(f"seed {number} ({', '.join(case.kinds)}): {problem!r} {case.options}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        kinds, broken = fuzz(options.count, options.seed, Path(folder), report)
    return finish({"kinds": kinds}, options.count, broken)


if __name__ == "__main__":
    sys.exit(main())
