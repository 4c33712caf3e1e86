"""What cases damage: a run, an exported model, a PyTorch file, songs and their cache, all sound."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tools.fuzz_separate.tiny_run import CONFIG, make_run
from vocalsep_jax.config import parse
from vocalsep_jax.coseparation import keys
from vocalsep_jax.data.songs import Library, find_library
from vocalsep_jax.runs.checkpoints import Checkpoints, named_arrays, read_model
from vocalsep_jax.runs.exported import FACTS, write_weights
from vocalsep_jax.runs.folder import config_path
from vocalsep_jax.runs.history import history_path

RATE = 8000


def make_templates(folder: Path) -> None:
    """Make them in a folder that is not there yet."""
    run = make_run(folder / "run")
    _save_more(run)
    lines = [{"kind": kind, "step": step, "loss": 0.5} for step in (1, 2, 3) for kind in ("train", "valid")]
    history_path(run).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for dtype in ("float32", "float16"):
        model = folder / f"model {dtype}"
        model.mkdir()
        checksum = write_weights(model, arrays_of(run), dtype)
        facts = {"step": 5, "weights": {"file": "weights.npz", "dtype": dtype, "sha256": checksum}}
        shown = {"parameters": 1, "sample_rate": RATE, "channels": 1, "licence": "none"}
        (model / FACTS).write_text(json.dumps(facts | shown))
        shutil.copy(config_path(run), config_path(model))
    _write_songs(folder / "songs")
    _write_encoder(folder / "encoder.npz", run)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint or model, by name."""
    return {name: np.asarray(x) for name, x in named_arrays(read_model(path)[0]).items()}


@functools.cache
def fresh_state() -> Any:
    """A state of the template's network, as training restores into it."""
    import jax
    import optax

    from vocalsep_jax.training.step import create_state

    config = parse(CONFIG)
    return jax.device_put(create_state(config.network(), optax.adamw(1e-3), 0, config.patch))


@functools.cache
def saved_models(templates: Path) -> list[dict[str, np.ndarray]]:
    """The arrays of all checkpoints of the template run."""
    steps = (templates / "run" / "checkpoints").glob("*/[0-9]*")
    return [arrays_of(step) for step in steps]


def library(templates: Path) -> Library:
    """The template songs."""
    return find_library(templates / "songs")


def _save_more(run: Path) -> None:
    """A second latest checkpoint, and a best one."""
    import jax

    state = fresh_state()
    with Checkpoints(run) as checkpoints:
        for kind, step in (("latest", 5), ("best", 4)):
            params = jax.tree.map(lambda x, step=step: x + np.float32(0.01 * step), state.params)
            variables = state.replace(params=params).variables
            checkpoints.save(kind, step, variables, state.rest, {"best_loss": 0.5})
            checkpoints.wait()


def _write_songs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number, name in enumerate(("A - One", "B - Two", "C - Three")):
        song = folder / "train" / name
        song.mkdir(parents=True)
        for stem in ("vocals", "accompaniment"):
            samples = rng.uniform(-0.5, 0.5, (70_000 + 5000 * number, 2))
            soundfile.write(song / f"{stem}.wav", samples, RATE)


def _write_encoder(path: Path, run: Path) -> None:
    """The run's network as PyTorch names and lays out its arrays; `encoders` makes files of it."""
    model, step = read_model(run)
    np.savez(path, **keys.to_torch(model, keys.network_of(model), step))  # type: ignore[arg-type]
