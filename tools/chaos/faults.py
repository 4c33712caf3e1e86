"""What can happen to a run: each gets an attempt under way, sees it end, and says what came of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence

from tools.chaos.runs import HUNG, PEER_TIMEOUT, Attempt, Run, check
from vocalsep_jax.runs.history import history_path


def kill_one(run: Run, attempt: Attempt) -> str:
    """SIGKILL to one process: all end."""
    run.rng.choice(attempt.processes).kill()
    return "was done" if 0 in attempt.codes() else "all ended"


def kill_all(run: Run, attempt: Attempt) -> str:
    """SIGKILL to all processes."""
    del run
    attempt.kill()
    return "ended"


def terminate_one(run: Run, attempt: Attempt) -> str:
    """SIGTERM to one process: all save and stop at the same step."""
    return _asked_to_stop(run, attempt, signal.SIGTERM)


def interrupt_one(run: Run, attempt: Attempt) -> str:
    """Ctrl-C for one process: all save and stop at the same step."""
    return _asked_to_stop(run, attempt, signal.SIGINT)


def pause_one(run: Run, attempt: Attempt) -> str:
    """SIGSTOP to one process for a moment: all go on."""
    one = run.rng.choice(attempt.processes)
    one.send_signal(signal.SIGSTOP)
    time.sleep(run.rng.uniform(0.1, 0.3 * PEER_TIMEOUT))
    one.send_signal(signal.SIGCONT)
    check(set(attempt.codes()) == {0}, "a pause ended the run")
    return "went on"


def hang_one(run: Run, attempt: Attempt) -> str:
    """SIGSTOP to one process for long: the others end with an error; so does it when it goes on."""
    if len(attempt.processes) == 1:
        return pause_one(run, attempt)
    one = run.rng.choice(attempt.processes)
    one.send_signal(signal.SIGSTOP)
    others = Attempt([p for p in attempt.processes if p is not one], [])
    begin = time.monotonic()
    codes = others.codes(within=60 + 4 * PEER_TIMEOUT)
    waited = time.monotonic() - begin
    one.send_signal(signal.SIGCONT)
    if set(codes) == {0}:  # they were done
        attempt.kill()
        return "was done"
    check(0 not in attempt.codes(), "a process was done without the others")
    return f"the others ended within {10 * (1 + waited // 10):.0f} s"


def damage_latest(run: Run, attempt: Attempt) -> str:
    """SIGKILL, and a file of the latest checkpoint changed, cut or lost: the one before is taken."""
    attempt.kill()
    if len(run.latest) < 2:
        return "ended (there was no second checkpoint yet)"
    file = run.rng.choice(sorted(p for p in (run.latest[-1] / "model").rglob("*") if p.is_file()))
    content = bytearray(file.read_bytes())
    how = run.rng.choice(["changed", "cut", "lost"])
    if how == "lost" or not content:
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: run.rng.randrange(len(content))])
    else:
        content[run.rng.randrange(len(content))] ^= 1 << run.rng.randrange(8)
        file.write_bytes(content)
    step = run.latest[-2].name
    return _looked_for(run, f"resuming {run.place} at step {step}", "the checkpoint before was taken")


def tear_history(run: Run, attempt: Attempt) -> str:
    """SIGKILL, and a line of the history half written: it is left out."""
    attempt.kill()
    if not history_path(run.place).exists():
        return "ended (there was no history yet)"
    with history_path(run.place).open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    return "left out"


def start_twice(run: Run, attempt: Attempt) -> str:
    """A second start in the same folder: it is refused, and the first goes on."""
    if not attempt.trains():  # before that, either may be the first
        return pause_one(run, attempt)
    second = run.start()
    codes = second.codes()
    if attempt.running():
        check(set(codes) == {1} or 0 not in codes, f"a second start ended with {codes}")
        check("another training is running there" in second.said(), "a second start was not told why")
        came = "refused"
    else:
        came = "was done"
    check(set(attempt.codes()) == {0}, "a second start ended the first")
    return came


def fill_disk(run: Run, attempt: Attempt) -> str:
    """Fill the disk: the run ends with one line, and loses no checkpoint."""
    before = {p.name for p in run.latest[:-1]}
    filler = run.place.parent / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        codes = attempt.codes()
        said = attempt.said()
    finally:
        filler.unlink()
    if set(codes) == {0}:
        return "was done"
    check(0 not in codes, f"a full disk ended with {codes}")
    check("o space left" in said or "RESOURCE_EXHAUSTED" in said, "a full disk was not named")
    check(bool(run.latest) or not before, "a full disk cost the checkpoints")
    return "ended with an error"


def take_songs_away(run: Run, attempt: Attempt) -> str:
    """Remove the songs under way: the run has them in memory, and goes on."""
    if not attempt.trains():
        return pause_one(run, attempt)
    away = run.folder / "songs_away"
    run.songs.rename(away)
    try:
        check(set(attempt.codes()) == {0}, "a run that had its songs in memory missed them")
    finally:
        away.rename(run.songs)
    return "went on"


FAULTS: tuple[Callable[[Run, Attempt], str], ...] = (
    kill_one,
    kill_all,
    terminate_one,
    interrupt_one,
    pause_one,
    hang_one,
    damage_latest,
    tear_history,
    start_twice,
    fill_disk,
    take_songs_away,
)
"""All of them."""


def _asked_to_stop(run: Run, attempt: Attempt, number: int) -> str:
    ready = attempt.trains()
    run.rng.choice(attempt.processes).send_signal(number)
    codes = attempt.codes()
    if not ready or set(codes) == {0}:  # while it starts it may end at once
        return "ended" if 0 not in codes else "was done"
    check(set(codes) <= {128 + signal.SIGTERM, 128 + number}, f"asked to stop, it ended with {codes}")
    step = run.latest[-1].name
    check(f"at step {step}, saved" in attempt.said(), f"stopped at another step than {step}")
    return "saved, stopped together"


def _looked_for(run: Run, text: str, means: str) -> str:
    """Start the run, see that it says something, and kill it."""
    attempt = run.start()
    end = time.monotonic() + HUNG
    while text not in attempt.said() and attempt.running() and time.monotonic() < end:
        time.sleep(0.1)
    said = attempt.said()
    attempt.kill()
    check(text in said, f"it did not say {text!r}")
    return means


def disturb(run: Run, faults: Sequence[Callable[[Run, Attempt], str]], seconds: float) -> bool:
    """Start the run and disturb it at a moment within so many seconds; whether it was done before."""
    attempt = run.start()
    fault = run.rng.choice(faults)
    moment = time.monotonic() + run.rng.uniform(0.0, seconds)
    try:
        while attempt.running() and time.monotonic() < moment:
            time.sleep(0.02)
        if all(process.poll() is None for process in attempt.processes):
            run.told.append((fault.__name__, fault(run, attempt)))
            return False
        check(set(attempt.codes()) == {0}, "it ended by itself, and not well")
        return True
    finally:
        for process in attempt.processes:
            if process.poll() is None:
                process.kill()
