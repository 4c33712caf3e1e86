"""Checkpoints, by Orbax: `checkpoints/latest/<step>` and `checkpoints/best/<step>` of a run.

A checkpoint holds the whole training state in two items: `model` (parameters and batch statistics) and
`training` (step, optimiser, metrics under way). Separating reads the first only. A third item, `facts`,
holds a few plain numbers. Orbax writes under a temporary name and renames: a checkpoint that is there is
complete. The digests of its files, written with them, tell when it is opened whether it still is what it
was; if it is not, there is the one before.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vocalsep_jax.runs.digests import damaged_file, seal
from vocalsep_jax.runs.exported import is_exported, read_weights
from vocalsep_jax.runs.folder import RunError, checkpoint_folder, one_line_errors
from vocalsep_jax.runtime.console import one_line
from vocalsep_jax.runtime.data_parallel import any_process
from vocalsep_jax.runtime.places import below, is_local, resolved, size

log = logging.getLogger(__name__)

KINDS = ("best", "latest")
"""Which checkpoints a run keeps, in the order of preference for separating."""

_ITEMS = ("model", "training", "facts")
_KEPT = {"best": 1, "latest": 2}
"""How many of each: a damaged latest one costs the steps since the one before, not the run."""

_MOST_PACKED = 100
"""By how much a checkpoint's arrays may be larger than its files, beyond `_SMALL` bytes."""

_SMALL = 2**26


@functools.cache
def _orbax() -> Any:
    """Orbax; imported when it is needed, which it is not for exported models: that takes a while."""
    handlers = list(logging.root.handlers)
    import orbax.checkpoint

    logging.root.handlers[:] = handlers  # importing it logs something, for which absl installs a handler
    # It reports every step of a save there, and again what it raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return orbax.checkpoint


class Restored(NamedTuple):
    """A checkpoint's items, as `Checkpoints.save` was given them."""

    model: Any
    training: Any
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run in training. Saving goes on in the background; `close` waits for it."""

    def __init__(self, run: Path):
        """Open (or create) the checkpoints of `run`. Every process must do so.

        A latest checkpoint that is damaged is deleted, with a warning, if there is a sound one before it.

        Raises:
          RunError: if all latest checkpoints are damaged, or the folder cannot be opened.
        """
        self._saving: dict[str, int] = {}  # the step that is being written
        self._folders = {kind: resolved(checkpoint_folder(run) / kind) for kind in KINDS}
        with one_line_errors(checkpoint_folder(run), "opened"):
            self._managers = {kind: self._manager(kind) for kind in KINDS}
        self._delete_damaged()

    def _manager(self, kind: str) -> Any:
        ocp = _orbax()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT[kind],
            create=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=functools.partial(self._seal, kind)),
            # Both may be saving the same step at once: their barriers need names of their own.
            multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=kind),
        )
        return ocp.CheckpointManager(self._folders[kind], options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, kind: str, step: int, model: Any, training: Any, facts: Mapping[str, Any]) -> None:
        """Save as the `latest` or `best` checkpoint, replacing that of before.

        A step that is there already (a resumed run repeats steps, with the same result) is kept.

        Args:
          kind: one of `KINDS`.
          step: the training step.
          model: `{"params": ..., "batch_stats": ...}`.
          training: all else that training changes.
          facts: plain numbers.

        Raises:
          RunError: if there is a later checkpoint of this kind; if it, or one before, cannot be written.
        """
        ocp, manager = _orbax(), self._managers[kind]
        if step in manager.all_steps():
            return
        if (latest := manager.latest_step()) is not None and latest > step:
            raise RunError(f"{manager.directory}: holds a later step than {step}; move it away")
        self._wait(kind)  # `_seal` has to know which is being written
        self._saving[kind] = step
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave(training),
            facts=ocp.args.JsonSave(dict(facts)),
        )
        with one_line_errors(self._folder(kind, step), "written"):
            # Without force it would ask JAX' preemption service, to which it matters who asks how often.
            manager.save(step, args=items, force=True)

    def _folder(self, kind: str, step: int) -> Path:
        return self._folders[kind] / str(step)

    def _seal(self, kind: str) -> None:
        """Write the digests of a step whose files are complete, and not yet called as they will be."""
        if jax.process_index() == 0:
            step = self._saving[kind]
            # In a bucket it has its name already: there, a file says when a step is complete.
            partial = next(iter(self._folders[kind].glob(f"{step}.*")), self._folder(kind, step))
            seal(partial, _ITEMS)

    def _delete_damaged(self) -> None:
        manager = self._managers["latest"]
        damaged: dict[int, str] = {}
        for step in sorted(manager.all_steps(), reverse=True):
            folder = self._folder("latest", step)
            file = damaged_file(folder) if jax.process_index() == 0 else None
            if not any_process(file is not None):
                break
            damaged[step] = _damage(folder, file)
        else:
            if damaged:
                raise RunError(damaged[max(damaged)])
        for step, message in damaged.items():
            log.warning("%s; the checkpoint before it is taken", message)
            manager.delete(step)

    def latest_step(self) -> int | None:
        """The step of the latest checkpoint, None if there is none."""
        return self._managers["latest"].latest_step()

    def restore_latest(self, model: Any, training: Any) -> Restored | None:
        """What the latest checkpoint holds, placed as `model` and `training` are; None if there is none.

        Raises:
          RunError: if it is damaged.
        """
        manager, step = self._managers["latest"], self.latest_step()
        if step is None:
            return None
        ocp = _orbax()
        model, training = jax.tree.map(_abstract, (model, training))
        wanted = ocp.args.Composite(
            model=ocp.args.StandardRestore(model),
            training=ocp.args.StandardRestore(training),
            facts=ocp.args.JsonRestore(),
        )
        with one_line_errors(self._folder("latest", step), "restored"):
            restored = manager.restore(step, args=wanted)
        return Restored(restored["model"], restored["training"], restored["facts"])

    def forget(self) -> None:
        """Delete all checkpoints, for a run that starts anew."""
        for manager in self._managers.values():
            for step in manager.all_steps():
                manager.delete(step)

    def wait(self) -> None:
        """Wait until everything is written; training can go on afterwards.

        Raises:
          RunError: if it cannot be.
        """
        for kind in KINDS:
            self._wait(kind)

    def _wait(self, kind: str) -> None:
        with one_line_errors(self._folders[kind], "written"):
            self._managers[kind].wait_until_finished()

    def close(self) -> None:
        """Wait until everything is written; raises RunError if it cannot be."""
        try:
            self.wait()
        finally:
            for manager in self._managers.values():
                manager.close()


def has_checkpoint(run: Path) -> bool:
    """Whether there is something in `run` to resume from."""
    return bool(_steps(checkpoint_folder(run) / "latest"))


def read_model(path: Path) -> tuple[Any, int]:
    """Read parameters and batch statistics as they are, whatever network they belong to.

    Args:
      path: a run (its best checkpoint, else its latest), its `checkpoints` folder, one of `best` and
        `latest` in it, one step's folder, a folder that `save_model` wrote, or an exported model.

    Returns:
      `{"params": ..., "batch_stats": ...}` of NumPy arrays, and the step it was saved at (0 if the folder
      does not say).

    Raises:
      RunError: if there is no checkpoint, or it is damaged.
    """
    path = path.expanduser()
    if is_exported(path):
        return read_weights(path)
    folder = _step_folder(path)
    if file := damaged_file(folder, "model/"):
        raise RunError(_damage(folder, file))
    model = read_item(folder, "model")
    if not _is_model(model):
        raise RunError(f"{folder}: cannot be restored (it is not a checkpoint of this software)")
    return jax.tree.map(np.asarray, model), int(folder.name) if folder.name.isdigit() else 0


def read_item(folder: Path, item: str) -> Any:
    """One item of a checkpoint as it was saved: a tree of arrays on this process's first device.

    Args:
      folder: of one step.
      item: `model` or `training`.

    Raises:
      RunError: if it is not there, or damaged.
    """
    ocp = _orbax()
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with (
        one_line_errors(folder, "restored"),
        ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader,
    ):
        shapes = reader.metadata(folder / item).item_metadata.tree
        _check_size(shapes, folder / item)
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
        return reader.restore(folder / item, args=ocp.args.StandardRestore(wanted))


def _check_size(shapes: Any, folder: Path) -> None:
    """Raise ValueError for arrays far larger than their files: they would fill the memory with nothing."""
    said = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    held = sum(size(path) for path in below(folder) if path.is_file())
    if said > _SMALL + _MOST_PACKED * held:
        raise ValueError(f"its arrays say to have {said / 1e9:.3g} GB, of {held / 1e9:.3g} GB of files")


def restore_model(path: Path, like: Any) -> tuple[Any, int]:
    """Read parameters and batch statistics of a network that is known.

    Args:
      path: as for `read_model`.
      like: `{"params": ..., "batch_stats": ...}` of arrays or shapes, as the network's `init` gives.

    Returns:
      The same tree as NumPy arrays, and the step it was saved at.

    Raises:
      RunError: if there is no checkpoint, or it is not of this network, or not of finite numbers.
    """
    model, step = read_model(path)
    if differing := shape_differences(like, model):
        name, wanted, found = differing[0]
        name = one_line(name[:200])
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise RunError(
            f"{path}: cannot be restored, it is of another network ({name} is {found}, not {wanted}{more})"
        )
    for name, x in named_arrays(model).items():
        if not np.isfinite(x).all():
            raise RunError(f"{path}: cannot be used, its {name} holds NaN or infinity")
    return model, step


def save_model(folder: Path, model: Any) -> None:
    """Write `{"params": ..., "batch_stats": ...}`, or a part of it, as `folder/model`.

    `folder` must not hold one yet.

    Raises:
      RunError: if it cannot be written.
    """
    ocp = _orbax()
    with one_line_errors(folder, "written"), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
        writer.save(resolved(folder) / "model", args=ocp.args.StandardSave(model))


def shape_differences(wanted: Any, found: Any) -> list[tuple[str, str, str]]:
    """Where two trees of arrays differ in names or shapes: name, wanted, found (shapes, or `absent`)."""
    a, b = named_arrays(wanted), named_arrays(found)

    def text(arrays: dict[str, Any], name: str) -> str:
        return shape_text(arrays[name].shape) if name in arrays else "absent"

    pairs = [(n, text(a, n), text(b, n)) for n in a | b]
    return [pair for pair in pairs if pair[1] != pair[2]]


def named_arrays(tree: Any) -> dict[str, Any]:
    """The arrays of a tree of dictionaries by name, `params/down1/kernel`."""
    return {"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(tree)}


def _is_model(tree: Any) -> bool:
    """Whether a tree is `{"params": {module: ...}, "batch_stats": ...}`; modules may hold modules."""
    if not isinstance(tree, dict) or set(tree) != {"params", "batch_stats"}:
        return False
    modules = [
        module
        for collection in tree.values()
        for module in (collection.values() if isinstance(collection, dict) else [None])
    ]
    return all(map(_is_module, modules))


def _is_module(tree: Any) -> bool:
    """Whether a tree holds arrays by name, and modules."""
    return isinstance(tree, dict) and all(isinstance(x, jax.Array) or _is_module(x) for x in tree.values())


def shape_text(shape: Iterable[int]) -> str:
    """A shape as text, `4x4x1x64`."""
    return "x".join(map(str, shape)) or "scalar"


def _damage(folder: Path, file: str | None) -> str:
    """Says that a checkpoint is damaged; in which file, only the process that has looked knows."""
    return f"{folder}: cannot be restored ({file or 'it'} is damaged)"


def _step_folder(path: Path) -> Path:
    """The folder of the one step that `path` stands for."""
    path = resolved(path)
    if not path.exists():
        raise RunError(f"{path}: no such checkpoint or run folder")
    if (path / "model").is_dir():
        return path
    for folder in (path, *(path / k for k in KINDS), *(path / "checkpoints" / k for k in KINDS)):
        if steps := _steps(folder):
            return max(steps, key=lambda p: int(p.name))
    raise RunError(f"{path}: holds no checkpoint (a run writes its first after some minutes)")


def _steps(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder of them."""
    return [p for p in folder.glob("[0-9]*") if p.name.isdigit() and _is_complete(p)]


def _is_complete(step: Path) -> bool:
    """Whether a checkpoint that has its name is all there, which on this machine it is."""
    if not (step / "model").is_dir():
        return False
    return is_local(step) or bool(_orbax().utils.is_checkpoint_finalized(step))


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
