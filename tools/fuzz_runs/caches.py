"""Song caches that are damaged."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.damage import damage_folder
from tools.fuzz_runs.templates import RATE, library
from tools.fuzz_runs.values import alter_json
from vocalsep_jax.data import prepared
from vocalsep_jax.data.songs import SongError

Stems = dict[str, dict[str, np.ndarray]]
"""By split, all samples of each stem."""


def attempt(case: Case) -> Attempt:
    """A cache with something wrong, which is then opened and read."""
    original, sound = _sound_cache(case.templates)
    cache = case.folder / "cache"
    shutil.copytree(sound, cache)
    if case.chance(0.5):
        for _ in range(case.pick((1, 1, 2))):
            damage_folder(case, cache, "*/song_chunks/**/*")
    else:
        path = case.pick(sorted(cache.rglob("*.json")))
        alter_json(case, path)
        case.kinds.append(path.name)

    def check(stems: Stems) -> str | None:
        same = all(np.array_equal(stems[s][x], original[s][x]) for s in original for x in original[s])
        return None if same else "the samples are not those of the songs"

    return Attempt(lambda: _read(case.templates, cache), (SongError,), check)


def _read(templates: Path, cache: Path) -> Stems:
    from vocalsep_jax.data.tfds_songs import prepare

    stores = prepare(library(templates), RATE, cache)
    return {split: prepared.MemoryStore.copy_of(store).stems for split, store in stores.items()}


@functools.cache
def _sound_cache(templates: Path) -> tuple[Stems, Path]:
    """The samples of the template songs, and a cache that holds them."""
    cache = templates / "cache"
    return _read(templates, cache), cache
