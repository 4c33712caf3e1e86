import json
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.runs.checkpoints import (
    Checkpoints,
    has_checkpoint,
    named_arrays,
    read_model,
    restore_model,
    save_model,
    shape_differences,
    shape_text,
)
from vocalsep_jax.runs.folder import RunError, checkpoint_folder
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host


class Averages(NamedTuple):
    """What an optimiser keeps, as Optax has it."""

    count: Any
    mean: Any


def at(step):
    """A model and what else training changes, on two devices, after so many steps."""
    rng = np.random.default_rng(step)

    def array(*shape):
        return rng.standard_normal(shape, np.float32)

    model = {
        "params": {
            "down1": {"kernel": array(4, 4, 1, 2), "bias": array(2)},
            "down1_norm": {"scale": array(2)},
        },
        "batch_stats": {"down1_norm": {"mean": array(2), "var": array(2)}},
    }
    averages = (Averages(np.int32(step), {"down1": {"kernel": array(4, 4, 1, 2)}}), ())
    training = {"step": np.int32(step), "opt_state": averages}
    return DataParallel("pmap", jax.devices()[:2]).replicate((model, training))


def save(run, *saved):
    """Save the state of each kind and step, as a run does."""
    with Checkpoints(run) as checkpoints:
        for kind, step in saved:
            checkpoints.save(kind, step, *at(step), {"best_loss": 0.5})


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_a_state_comes_back_bit_for_bit_where_it_was(tmp_path):
    model, training = at(0)
    with Checkpoints(tmp_path) as checkpoints:
        assert not has_checkpoint(tmp_path)
        assert checkpoints.restore_latest(model, training) is None
        assert checkpoints.latest_step() is None
    save(tmp_path, ("latest", 7))
    assert has_checkpoint(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        restored = checkpoints.restore_latest(model, training)
    assert restored.facts == {"best_loss": 0.5}
    assert_equal(to_host((restored.model, restored.training)), to_host(at(7)))
    for a, b in zip(jax.tree.leaves(restored[:2]), jax.tree.leaves((model, training)), strict=True):
        assert a.sharding == b.sharding


def test_only_the_newest_of_each_kind_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save("latest", step, *at(step), {})
        checkpoints.save("best", 2, *at(2), {})
        checkpoints.save("best", 2, *at(9), {})  # repeated: kept as it was
    folders = {k: [p.name for p in (tmp_path / "checkpoints" / k).iterdir()] for k in ("latest", "best")}
    assert {kind: sorted(steps) for kind, steps in folders.items()} == {"latest": ["2", "3"], "best": ["2"]}
    model, step = restore_model(tmp_path, at(0)[0])  # the best, where there is one
    assert step == 2
    assert_equal(model, at(2)[0])


def test_a_step_that_is_older_than_what_is_there_is_refused(tmp_path):
    save(tmp_path, ("latest", 7))
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(RunError, match="latest: holds a later step than 3; move it away"),
    ):
        checkpoints.save("latest", 3, *at(3), {})


def test_what_is_forgotten_is_gone(tmp_path):
    save(tmp_path, ("latest", 1), ("best", 1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.forget()
        assert checkpoints.latest_step() is None
        checkpoints.save("latest", 1, *at(2), {})
        checkpoints.wait()
    assert_equal(read_model(tmp_path)[0], at(2)[0])


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    """The steps that follow reuse (donate) the memory the checkpoint is written from."""
    arrays = {name: np.full((512, 1024), n, np.float32) for n, name in enumerate("abcdefgh")}
    model = DataParallel("pmap", jax.devices()[:1]).replicate(
        {"params": {"down1": arrays}, "batch_stats": {}}
    )
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
    model = change(model)
    expected = jax.tree.map(np.array, to_host(model))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save("latest", 1, model, {"step": jnp.int32(1)}, {})
        for _ in range(20):
            model = change(model)
        jax.block_until_ready(model)
    assert_equal(read_model(tmp_path)[0], expected)


def test_a_model_is_found_wherever_one_points(tmp_path):
    save(tmp_path, ("latest", 5))
    folder = checkpoint_folder(tmp_path)
    for path in (tmp_path, folder, folder / "latest", folder / "latest" / "5"):
        model, step = read_model(path)
        assert step == 5
        assert_equal(model, at(5)[0])
    with pytest.raises(RunError, match="no such checkpoint or run folder"):
        read_model(tmp_path / "missing")
    with pytest.raises(RunError, match=r"holds no checkpoint \(a run writes its first after"):
        read_model(folder / "best")


def test_what_is_no_checkpoint_of_this_network_is_refused(tmp_path):
    save(tmp_path, ("latest", 5))
    model = at(0)[0]
    restore_model(tmp_path, model)
    wider = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], 3), x.dtype), model)
    deeper = model | {"params": model["params"] | {"down2": model["params"]["down1"]}}
    for other in (wider, deeper):
        with pytest.raises(RunError, match="cannot be restored, it is of another network") as error:
            restore_model(tmp_path, other)
        assert "\n" not in str(error.value)
    with pytest.raises(RunError, match=r"batch_stats/down1_norm/mean is 2, not 3, and 4 more\)"):
        restore_model(tmp_path, wider)
    with pytest.raises(RunError, match=r"params/down2/\w+ is absent, not .*, and 1 more\)"):
        restore_model(tmp_path, deeper)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    save(tmp_path, ("latest", 5))
    for path in (checkpoint_folder(tmp_path) / "latest" / "5" / "model").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RunError, match="cannot be restored"):
        read_model(tmp_path)
    with pytest.raises(RunError, match="cannot be restored"):
        Checkpoints(tmp_path)


def files_of(run, step):
    folder = checkpoint_folder(run) / "latest" / str(step)
    items = [path for item in ("model", "training", "facts") for path in (folder / item).rglob("*")]
    return [path for path in items if path.is_file() and path.stat().st_size]


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, lose, cut])
def test_the_checkpoint_before_a_damaged_one_is_taken(tmp_path, caplog, damage):
    save(tmp_path / "sound", ("latest", 5), ("latest", 7))
    count = len(files_of(tmp_path / "sound", 7))
    assert count >= 6
    for number in range(count):
        run = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "sound", run)
        file = files_of(run, 7)[number]
        damage(file)
        caplog.clear()
        with Checkpoints(run) as checkpoints:
            (line,) = caplog.messages
            assert f"{file.name} is damaged); the checkpoint before it is taken" in line
            assert checkpoints.latest_step() == 5
            restored = checkpoints.restore_latest(*at(0))
            checkpoints.save("latest", 7, *at(7), {"best_loss": 0.5})  # training comes there again
        assert_equal(to_host((restored.model, restored.training)), to_host(at(5)))
        with Checkpoints(run) as checkpoints:
            assert checkpoints.latest_step() == 7


def test_nothing_is_deleted_where_all_is_damaged(tmp_path):
    save(tmp_path, ("latest", 5), ("latest", 7))
    for step in (5, 7):
        flip(files_of(tmp_path, step)[0])
    with pytest.raises(RunError, match=r"latest/7: cannot be restored \(model/.* is damaged\)"):
        Checkpoints(tmp_path)
    assert sorted(p.name for p in (checkpoint_folder(tmp_path) / "latest").iterdir()) == ["5", "7"]


def test_weights_that_are_not_what_they_were_are_not_read(tmp_path):
    save(tmp_path, ("best", 5))
    folder = checkpoint_folder(tmp_path) / "best" / "5"
    for path in (folder / "training").rglob("*"):
        if path.is_file():
            flip(path)
    assert read_model(tmp_path)[1] == 5  # which is not read for separating
    for path in (p for p in (folder / "model").rglob("*") if p.is_file()):
        flip(path)
        with pytest.raises(RunError, match=r"best/5: cannot be restored \(model/.* is damaged\)"):
            read_model(tmp_path)
        flip(path)


def test_a_checkpoint_of_before_there_were_digests_is_taken(tmp_path):
    save(tmp_path, ("latest", 5), ("latest", 7))
    (checkpoint_folder(tmp_path) / "latest" / "7" / "digests.json").unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
    (checkpoint_folder(tmp_path) / "latest" / "7" / "digests.json").write_text("{")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 5


def test_any_part_of_a_model_is_saved_and_read_back(tmp_path):
    part = {"params": {"down1": at(0)[0]["params"]["down1"]}, "batch_stats": {}}
    save_model(tmp_path / "part", part)
    model, step = read_model(tmp_path / "part")
    assert step == 0
    assert named_arrays(model).keys() == {"params/down1/kernel", "params/down1/bias"}
    assert_equal(model, part)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(model))
    with pytest.raises(RunError, match="cannot be written"):
        save_model(tmp_path / "part", part)


@pytest.mark.parametrize(
    "tree",
    [
        {"weights": [np.ones(2)]},
        {"params": np.ones(2), "batch_stats": {}},
        {"params": {"a": np.ones(2)}, "batch_stats": {}},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, tree):
    save_model(tmp_path, tree)
    with pytest.raises(RunError, match="not a checkpoint of this software"):
        read_model(tmp_path)


def test_an_empty_checkpoint_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(RunError, match="cannot be restored"):
        read_model(tmp_path)


def test_differences_of_shapes():
    a = {"x": np.zeros((2, 3)), "y": {"z": np.zeros(4)}, "same": np.zeros(())}
    b = {"x": np.zeros((3, 2)), "w": np.zeros(1), "same": np.ones(())}
    assert shape_differences(a, b) == [("x", "2x3", "3x2"), ("y/z", "4", "absent"), ("w", "absent", "1")]
    assert [shape_text(x) for x in ((), (3,), (4, 4, 1, 64))] == ["scalar", "3", "4x4x1x64"]


def test_arrays_far_larger_than_their_files_are_not_read(tmp_path):
    zeros = {"params": {"down1": {"kernel": np.zeros(2**25, np.float32)}}, "batch_stats": {}}
    save_model(tmp_path, zeros)
    with pytest.raises(RunError, match=r"cannot be restored \(its arrays say to have 0\.134 GB"):
        read_model(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model = {"params": {"down1": {"bias": np.full(2, value, np.float32)}}, "batch_stats": {}}
    save_model(tmp_path, model)
    with pytest.raises(RunError, match="its params/down1/bias holds NaN or infinity"):
        restore_model(tmp_path, model)


def test_a_run_that_orbax_cannot_open_is_told(tmp_path):
    save(tmp_path, ("latest", 1))
    metadata = checkpoint_folder(tmp_path) / "latest" / "1" / "_CHECKPOINT_METADATA"
    content = json.loads(metadata.read_text()) | {"commit_timestamp_nsecs": 10**30}
    metadata.write_text(json.dumps(content))
    with pytest.raises(RunError, match="checkpoints: cannot be opened"):
        Checkpoints(tmp_path)
