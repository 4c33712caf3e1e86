"""Whether two runs have come to the same end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from vocalsep_jax.runs.checkpoints import KINDS, read_item
from vocalsep_jax.runs.folder import checkpoint_folder
from vocalsep_jax.runs.history import read_history

ROUNDING = 2e-2
"""Relative, of losses, between runs on other numbers of devices. It grows from 1e-7: AdamW divides by the
size of gradients, of which some are near zero."""

_TIMES = ("patches_per_second", "data_wait_fraction", "seconds")


def ends_as(place: Path, reference: Path, *, exactly: bool) -> list[str]:
    """In what the end of a run differs from that of another."""
    different = []
    mine, other = read_history(place), read_history(reference)
    if [(x["kind"], x["step"]) for x in mine] != [(x["kind"], x["step"]) for x in other]:
        return ["the history has other lines"]
    for a, b in zip(mine, other, strict=True):
        names = (a.keys() | b.keys()) - set(_TIMES) if exactly else {"loss"}
        different += [
            f"{a['kind']} at step {a['step']}: {name} {a.get(name)}, not {b.get(name)}"
            for name in sorted(names)
            if not _same(a.get(name), b.get(name), exactly=exactly)
        ]
    if exactly:
        for kind in KINDS:
            arrays, wanted = (_arrays(checkpoint_folder(x) / kind) for x in (place, reference))
            different += [
                f"{kind}: {name}"
                for name in arrays.keys() | wanted.keys()
                if name not in arrays
                or name not in wanted
                or not np.array_equal(arrays[name], wanted[name])
            ]
    return different


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint in a folder of them, by name."""
    last = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    items = {item: read_item(last, item) for item in ("model", "training")}
    return {
        f"{last.name}{jax.tree_util.keystr(k)}": np.asarray(x) for k, x in jax.tree.leaves_with_path(items)
    }


def _same(a: Any, b: Any, *, exactly: bool) -> bool:
    if exactly:
        return bool(a == b)
    return isinstance(a, float) and isinstance(b, float) and abs(a - b) <= ROUNDING * abs(b)
