"""Runs and checkpoints that are damaged, by chance or on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.configs import check_stems, separate_command, separated
from tools.fuzz_runs.damage import damage_folder
from tools.fuzz_runs.templates import fresh_state, saved_models
from tools.fuzz_runs.values import alter_json, as_json, deep, hostile
from vocalsep_jax.runs.checkpoints import (
    Checkpoints,
    has_checkpoint,
    named_arrays,
    read_model,
    restore_model,
)
from vocalsep_jax.runs.digests import DIGESTS, seal
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.history import history_path, read_history

_NAMES = (
    *("../../x", "/etc/passwd", "model/../../../../x", "model/\0", "model/\ud800", "model/" + "x" * 5000),
    *("model/a\nb", "", ".", "model", "model/", "model/_METADATA"),
)
"""Of files, in digests that are made up."""


def attempt(case: Case) -> Attempt:
    """A run with something wrong, and one of those that read it."""
    run = case.folder / "run"
    shutil.copytree(case.templates / "run", run)
    harm = case.pick((*(_anywhere,) * 6, _digests, _digests, *(_metadata,) * 4, _history))
    harm(case, run)
    _chance_to_hide(case, run)
    if harm is _history:
        return Attempt(lambda: read_history(run), (RunError,), _check_history)
    way = case.pick((*(_read,) * 5, *(_restored,) * 3, *(_resumed,) * 3, _separated))
    case.kinds.append(way.__name__.strip("_"))
    return way(case, run)


def check_arrays(case: Case, model: Any) -> str | None:
    """What is wrong with a model that was read from digested files; None if nothing is."""
    found = {name: np.asarray(x) for name, x in named_arrays(model).items()}
    if any(_same(found, saved) for saved in saved_models(case.templates)):
        return None
    return "the arrays are not those that were saved"


def _same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _steps(run: Path) -> list[Path]:
    return sorted(p for p in (run / "checkpoints").glob("*/*") if p.is_dir())


def _anywhere(case: Case, run: Path) -> None:
    for _ in range(case.pick((1, 1, 1, 3))):
        damage_folder(case, run, case.pick(("**/*", "checkpoints/**/*", "checkpoints/*/*/model/**/*")))


def _digests(case: Case, run: Path) -> None:
    """Digests that were made up, or lead elsewhere."""
    case.kinds.append("digests")
    path = case.pick(_steps(run)) / DIGESTS
    kind = case.pick(("altered", "names", "many", "deep", "damaged"))
    if kind == "altered":
        alter_json(case, path)
    elif kind == "names":
        digests = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(as_json(digests | {case.pick(_NAMES): hostile(case)}))
    elif kind == "many":
        path.write_text(json.dumps({f"model/{n}": "0" * 128 for n in range(50_000)}))
    elif kind == "deep":
        path.write_text(as_json({"model/x": deep(100_000)}))
    else:
        damage_folder(case, path.parent, DIGESTS)


def _metadata(case: Case, run: Path) -> None:
    """JSON of Orbax that says something else; the digests may say that this is as it was."""
    names = ("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "array_metadatas/*", "metadata")
    files = [p for step in _steps(run) for name in names for p in step.rglob(name) if p.is_file()]
    case.kinds.append("metadata")
    for _ in range(case.pick((1, 2))):
        path = case.pick(files)
        if case.chance(0.5):
            alter_json(case, path)
        else:
            _make_huge(case, path)


def _make_huge(case: Case, path: Path) -> None:
    """Numbers of a file become huge."""
    text = path.read_text(encoding="utf-8")
    huge = case.pick(("2147483648", "1099511627776", "99999999999999999999", "1e300", "-5", "0"))
    places = [n for n, x in enumerate(text) if x.isdigit() and not text[n - 1].isalnum()]
    for place in sorted(case.rng.choice(places or [0], case.pick((1, 3, 20))), reverse=True):
        text = text[:place] + huge + text[place + 1 :]
    path.write_text(text, encoding="utf-8")
    case.kinds.append("huge numbers")


def _history(case: Case, run: Path) -> None:
    case.kinds.append("history")
    if case.chance(0.5):
        damage_folder(case, run, history_path(run).name)
        return
    lines = history_path(run).read_text(encoding="utf-8").splitlines()
    place = int(case.rng.integers(len(lines)))
    lines[place] = case.pick(
        (as_json(hostile(case)), as_json({case.pick(("kind", "step")): hostile(case)}))
    )
    history_path(run).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _check_history(lines: list[dict[str, Any]]) -> str | None:
    """Lines must be what those who read them rely on."""
    for line in lines:
        if not isinstance(line["kind"], str) or not isinstance(line["step"], int):
            return f"a line is {line}"
    return None


def _chance_to_hide(case: Case, run: Path) -> None:
    """What was damaged is sealed anew, or was never sealed: the digests tell of nothing."""
    how = case.pick(("sealed before", "sealed before", "sealed again", "never sealed"))
    case.kinds.append(how)
    if how == "sealed before":
        return
    for step in _steps(run):
        digests = step / DIGESTS
        if digests.is_file():
            digests.unlink()
            if how == "sealed again":
                seal(step, ("model", "training", "facts"))


def _checked(case: Case) -> bool:
    """Whether what can be read must be what was saved."""
    told = "sealed before" in case.kinds and not {"digests", "damage: removed"} & set(case.kinds)
    return told and not any(kind.startswith("damage: folder") for kind in case.kinds)


def _read(case: Case, run: Path) -> Attempt:
    path = case.pick([run, run / "checkpoints" / "latest", *_steps(run)])
    check = (lambda read: check_arrays(case, read[0])) if _checked(case) else (lambda _: None)
    return Attempt(lambda: read_model(path), (RunError,), check)


def _restored(case: Case, run: Path) -> Attempt:
    like = fresh_state().variables
    check = (lambda read: check_arrays(case, read[0])) if _checked(case) else (lambda _: None)
    return Attempt(lambda: restore_model(run, like), (RunError,), check)


def _resumed(case: Case, run: Path) -> Attempt:
    """As training goes on from a run."""

    def call() -> Any:
        if not has_checkpoint(run):
            return None
        state = fresh_state()
        with Checkpoints(run) as checkpoints:
            return checkpoints.restore_latest(state.variables, state.rest)

    def check(restored: Any) -> str | None:
        return check_arrays(case, restored.model) if restored and _checked(case) else None

    return Attempt(call, (RunError,), check)


def _separated(case: Case, run: Path) -> Attempt:
    if case.chance(0.3):
        return separate_command(case, run)
    return Attempt(lambda: separated(run), (RunError,), check_stems)
