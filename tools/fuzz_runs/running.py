"""Running cases: making them, calling what they are about within limits, checking what came of it."""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tools.fuzz_runs import caches, checkpoints, configs, encoders, models, songs
from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzzing import TimeLimit, escaped, is_one_line, time_limit

AREAS: Mapping[str, Callable[[Case], Attempt]] = {
    "configs": configs.attempt,
    "checkpoints": checkpoints.attempt,
    "models": models.attempt,
    "encoders": encoders.attempt,
    "songs": songs.attempt,
    "caches": caches.attempt,
}
"""Each makes something hostile or damaged of a case, and says how it is read."""

TIME_LIMIT = 30
"""Seconds that a call may take."""

MEMORY_LIMIT = 500 * 2**20
"""Bytes that a call may take beyond what the process has."""

_ADDRESS_SPACE = 4 * 2**30
"""Bytes that a call may ask for; threads ask for much that they do not take."""

_CANARY = "tools.fuzz_runs.canary"
_STARTS_A_PROCESS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
_NO_MEMORY = re.compile(r"bad_alloc|RESOURCE_EXHAUSTED|llocate|out of memory", re.IGNORECASE)

_started: list[str] | None = None
"""Processes that the case under way started; None where none is under way."""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _started is not None and event in _STARTS_A_PROCESS:
        _started.append(f"{event} {arguments!r}"[:300])


sys.addaudithook(_audit)


def run_case(area: str, seed: int, templates: Path, folder: Path) -> Case:
    """Make, run and check one case of an area.

    Args:
      area: one of `AREAS`.
      seed: of its random numbers.
      templates: what `make_templates` made.
      folder: for its files; not there yet.
    """
    folder.mkdir()
    case = Case(np.random.default_rng([seed, list(AREAS).index(area)]), templates, folder)
    try:
        with warnings.catch_warnings(), contextlib.chdir(folder):
            warnings.simplefilter("ignore")
            _call(case, AREAS[area](case))
        if case.canary.exists() or _CANARY in sys.modules:
            sys.modules.pop(_CANARY, None)
            case.problems.append("something in a file was executed")
    finally:
        shutil.rmtree(folder)
    return case


def _call(case: Case, attempt: Attempt) -> None:
    """Call within limits; what is wrong is added to the case's problems."""
    wrong = case.problems.append
    before = _peak_memory(reset=True)
    try:
        with _no_processes(case), _address_space(), time_limit(TIME_LIMIT):
            result = attempt.call()
    except TimeLimit:
        case.outcome = "took too long"
        wrong(f"took more than {TIME_LIMIT} s")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        case.outcome = type(error).__name__
        if not isinstance(error, attempt.errors):
            wrong(escaped(error))
        elif not is_one_line(_without_names(case, str(error))):
            wrong(f"not one line: {str(error)[:300]!r}")
        if any(_is_of_memory(cause) for cause in _causes(error)):
            wrong(f"asked for too much memory: {str(error)[:300]}")
    else:
        case.outcome = "no error"
        if attempt.must_fail:
            wrong(f"no error, but {str(result)[:300]}")
        elif problem := attempt.check(result):
            wrong(problem)
    if (taken := _peak_memory() - before) > MEMORY_LIMIT:
        wrong(f"took {taken >> 20} MiB")


def _without_names(case: Case, message: str) -> str:
    """A message without the names of the case's files, which may hold what ends a line."""
    for path in sorted(case.folder.rglob("*"), key=lambda p: len(p.name), reverse=True):
        message = message.replace(path.name, "")
    return message.replace(str(case.folder), "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)[:2000]))


@contextlib.contextmanager
def _no_processes(case: Case) -> Iterator[None]:
    """Processes that are started within are problems of the case, but for those of its command."""
    global _started
    _started = []
    try:
        yield
    finally:
        if "command line" not in case.kinds:
            case.problems.extend(f"started a process: {process}" for process in _started)
        _started = None


@contextlib.contextmanager
def _address_space() -> Iterator[None]:
    """A bound on the memory that can be asked for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_SPACE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _peak_memory(*, reset: bool = False) -> int:
    """The most bytes of memory that this process had since the last reset; right after one, what it has."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
