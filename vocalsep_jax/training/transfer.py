"""Starting a run from weights that were trained before."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from vocalsep_jax.models.unet import is_encoder
from vocalsep_jax.runs.checkpoints import (
    named_arrays,
    read_model,
    restore_model,
    shape_differences,
    shape_text,
)
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime.places import place

log = logging.getLogger(__name__)


def start_from_run(path: str, fresh: dict[str, Any]) -> dict[str, Any]:
    """All weights and statistics of a run (or of a network converted whole) of the same network.

    Args:
      path: a run, a checkpoint, or a converted network.
      fresh: `{"params": ..., "batch_stats": ...}` of the network that is to start.

    Returns:
      A tree as `fresh`, of NumPy arrays.

    Raises:
      RunError: if there is no checkpoint or it is of another network.
    """
    model, step = restore_model(place(path), fresh)
    log.info("weights: from %s, step %d", path, step)
    return model


def start_from_encoder(path: str, fresh: dict[str, Any]) -> dict[str, Any]:
    """`fresh` with the parameters and running statistics of its encoder taken from `path`.

    Each array taken is logged. Arguments as for `start_from_run`; `path` may also be a converted encoder.

    Raises:
      RunError: if there is no encoder in `path`, or it is of other sizes; the message has a table of all
        arrays that differ.
    """
    model, _ = read_model(place(path))
    found, wanted = encoder_part(model), encoder_part(fresh)
    if differing := shape_differences(wanted, found):
        rows = [("", "this network", "given"), *differing]
        table = "\n".join(f"  {name:32} {a:>16} {b:>16}" for name, a, b in rows)
        raise RunError(f"{path}: its encoder is not of this network's sizes\n{table}")
    arrays = named_arrays(found)
    lines = [f"encoder: from {path}, {len(arrays)} arrays; decoder: random"]
    for name, x in arrays.items():
        lines.append(f"  {name:32} {shape_text(x.shape):>16}  mean {np.mean(x):+.3e}  std {np.std(x):.3e}")
    log.info("%s", "\n".join(lines))
    return {name: fresh[name] | found[name] for name in fresh}


def encoder_part(model: dict[str, Any]) -> dict[str, Any]:
    """The encoder's share of `{"params": ..., "batch_stats": ...}`."""
    return {
        collection: {name: x for name, x in modules.items() if is_encoder(name)}
        for collection, modules in model.items()
    }
