"""Fuzz what is read besides songs to separate: each case must give the right result or a clear error.

    python -m tools.fuzz_runs --count 500 --seed 0 [AREA...]

An area is what is read: configs, checkpoints, models (exported ones), encoders (of PyTorch), songs (folders
of them), caches. Each case makes something hostile or damaged, has it read within limits on time and
memory, and checks the result, that an error is one line, and that nothing in it was executed. A case
depends on nothing but its seed: `--count 1 --seed S AREA` repeats case S. The exit code is 1 if a promise
was broken.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tools.fuzz_runs.workers import fuzz
from tools.fuzzing import finish, parser


def main() -> int:
    """The command; returns its exit code."""
    from tools.fuzz_runs.running import AREAS

    options = parser("python -m tools.fuzz_runs", __doc__, 500)
    options.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(AREAS)} (all)")
    given = options.parse_args()
    areas = given.areas or list(AREAS)
    if unknown := set(areas) - set(AREAS):
        options.error(f"no area {unknown.pop()!r}; there are {', '.join(AREAS)}")
    with tempfile.TemporaryDirectory() as folder:
        counts, broken = fuzz(areas, given.count, given.seed, Path(folder))
    return finish(counts, given.count * len(areas), broken)


if __name__ == "__main__":
    sys.exit(main())
