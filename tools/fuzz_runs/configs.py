"""Configs that are wrong: dictionaries, `config.json` of runs, overrides on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.commands import CommandError, run_command
from tools.fuzz_runs.templates import RATE
from tools.fuzz_runs.values import NUMBERS, TEXTS, alter, alter_json, nested, places
from tools.fuzz_separate.tiny_run import CONFIG
from tools.fuzzing import damage
from vocalsep_jax import Separator, separate, train_and_evaluate
from vocalsep_jax.config import Config, ConfigError, parse, to_fields
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runs.folder import RunError, config_path
from vocalsep_jax.runs.record import read_record
from vocalsep_jax.training.start import check_resumable

_ROOT = Path(__file__).resolve().parents[2]


def attempt(case: Case) -> Attempt:
    """Something wrong with a config, and one of those that read it."""
    way = case.pick((*(_dictionary,) * 6, *(_record,) * 6, *(_training,) * 3, _separator, _resumed))
    if case.chance(0.01):
        way = _command_line
    case.kinds.append(way.__name__.strip("_").replace("_", " "))
    return way(case)


def separated(run: Path) -> dict[str, np.ndarray]:
    """The stems of some noise."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, 1)).astype(np.float32)
    return Separator(run).separate(samples, RATE)


def check_stems(stems: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the stems of the noise; None if nothing is."""
    if not all(np.isfinite(stem).all() and len(stem) == 3000 for stem in stems.values()):
        return "the stems are no stems"
    return None


def separate_command(case: Case, run: Path) -> Attempt:
    """The separation command with a run; it fails with exit code 2 and a line."""
    case.kinds.append("separate command")
    song = case.templates / "songs" / "train" / "A - One" / "vocals.wav"
    arguments = ["--checkpoint", str(run), "-o", "out", "--", str(song)]
    return Attempt(lambda: run_command(separate.main, arguments, [2]), (CommandError,))


def _fields() -> dict[str, Any]:
    return json.loads(json.dumps(to_fields(parse(CONFIG))))


def _dictionary(case: Case) -> Attempt:
    fields = nested(alter(case, _fields()))
    return Attempt(lambda: parse(fields), (ConfigError,), _check_again)


def _check_again(config: Config) -> str | None:
    """A config that is taken must be the same after a way through its fields."""
    return None if parse(to_fields(config)) == config else "is another config when it is parsed again"


def _training(case: Case) -> Attempt:
    """Training has no songs, so that it ends before it begins even if the config is right."""
    fields = nested(alter(case, _fields()))
    if isinstance(fields, dict) and isinstance(fields.get("data", {}), dict):
        fields["data"] = fields.get("data", {}) | {"root": str(case.folder / "no songs")}
    errors = ConfigError, SongError, RunError
    return Attempt(lambda: train_and_evaluate(fields, case.folder / "run"), errors, must_fail=True)


def _record(case: Case) -> Attempt:
    run = case.folder / "run"
    run.mkdir()
    _write_wrong(case, run)
    return Attempt(lambda: read_record(run), (RunError,), lambda record: _check_again(record.config))


def _write_wrong(case: Case, run: Path) -> None:
    """A `config.json` that is wrong."""
    shutil.copy(config_path(case.templates / "run"), run)
    if case.chance(0.3):
        case.kinds.append(f"config.json: {damage(case, config_path(run))}")
    else:
        alter_json(case, config_path(run))


def _resumed(case: Case) -> Attempt:
    run = case.folder / "run"
    shutil.copytree(case.templates / "run", run)
    _write_wrong(case, run)
    return Attempt(lambda: check_resumable(run, parse(CONFIG)), (RunError,))


def _separator(case: Case) -> Attempt:
    model = case.folder / "model"
    shutil.copytree(case.templates / "model float32", model)
    _write_wrong(case, model)
    if case.chance(0.3):
        return separate_command(case, model)
    return Attempt(lambda: separated(model), (RunError,), check_stems)


def _command_line(case: Case) -> Attempt:
    """Overrides in a process of its own; there are no songs, so that it fails in any case."""
    overrides = []
    for _ in range(int(case.rng.integers(1, 3))):
        name = ".".join(case.pick([path for path in places(_fields()) if all(map(str.isidentifier, path))]))
        value = case.pick((*map(str, NUMBERS), *TEXTS, "[" * 300, "(1,)", "{}"))
        overrides.append(f"--config.{name}={value}".replace("\0", "0").encode(errors="replace"))
    overrides.append(os.fsencode(f"--config.data.root={case.folder / 'no songs'}"))
    command = [sys.executable, "-m", "vocalsep_jax.main", "--config", "configs/smoke.py", "--workdir"]

    def call() -> None:
        done = subprocess.run(
            [*command, str(case.folder / "run"), *overrides], cwd=_ROOT, capture_output=True, check=False
        )
        text = done.stderr.decode(errors="replace")
        if done.returncode != 1 or "Traceback" in text:
            raise RuntimeError(f"exit code {done.returncode}: {overrides!r} {text[-1500:]}")
        raise CommandError(text.splitlines()[-1])

    return Attempt(call, (CommandError,), must_fail=True)
