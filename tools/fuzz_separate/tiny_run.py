"""A run with a tiny network of random weights: quick to load and to compile. The tests use it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "audio": {"sample_rate": 8000, "n_fft": 62, "hop": 21, "patch_frames": 32},
    "model": {"width": 2, "depth": 5, "dtype": "float32"},
}


def make_run(folder: Path) -> Path:
    """Make the run in `folder`, which is not there yet; gives the folder."""
    import jax
    import optax

    from vocalsep_jax.config import parse
    from vocalsep_jax.runs.checkpoints import Checkpoints
    from vocalsep_jax.runs.record import RunRecord, write_record
    from vocalsep_jax.training.step import create_state

    config = parse(CONFIG)
    folder.mkdir(parents=True)
    write_record(folder, RunRecord(config, {}))
    state = create_state(config.network(), optax.adamw(1e-3), 0, config.patch)
    rng = np.random.default_rng(1)  # JAX would compile a program for every shape
    noisy = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(x.dtype), state.params)
    state = state.replace(params=noisy)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save("latest", 3, state.variables, state.rest, {})
    return folder
