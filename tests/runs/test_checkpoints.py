import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vocalsep_jax.models.unet import UNet
from vocalsep_jax.runs.checkpoints import (
    Checkpoints,
    has_checkpoint,
    named_arrays,
    read_model,
    restore_model,
    save_model,
    shape_differences,
)
from vocalsep_jax.runs.folder import RunError, checkpoint_folder
from vocalsep_jax.runtime.devices import DataParallel, to_host
from vocalsep_jax.training.step import create_state

MODEL = UNet(width=2, depth=5)


@pytest.fixture
def state():
    fresh = create_state(MODEL, optax.adamw(1e-3), 0, (32, 32))
    return DataParallel("pmap", jax.devices()[:2]).replicate(fresh)


def at(state, step):
    """The state with its step, and something that tells it from others."""
    return state.replace(step=state.step + step, params=jax.tree.map(lambda x: x + step, state.params))


def assert_equal(tree, other):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_comes_back_bit_for_bit_where_it_was(tmp_path, state):
    checkpoints = Checkpoints(tmp_path)
    assert not has_checkpoint(tmp_path)
    assert checkpoints.restore_latest(state) is None
    assert checkpoints.latest_step() is None
    checkpoints.save("latest", at(state, 7), 7, {"best_loss": 0.5})
    checkpoints.close()
    assert has_checkpoint(tmp_path)
    restored, facts = Checkpoints(tmp_path).restore_latest(state)
    assert facts == {"best_loss": 0.5}
    assert_equal(to_host(restored), to_host(at(state, 7)))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert a.sharding == b.sharding


def test_only_the_newest_of_each_kind_is_kept(tmp_path, state):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save("latest", at(state, step), step, {})
    checkpoints.save("best", at(state, 2), 2, {})
    checkpoints.save("best", at(state, 9), 2, {})  # repeated: kept as it was
    checkpoints.close()
    folders = {k: [p.name for p in (tmp_path / "checkpoints" / k).iterdir()] for k in ("latest", "best")}
    assert folders == {"latest": ["3"], "best": ["2"]}
    model, step = restore_model(tmp_path, variables(state))
    assert step == 2
    assert_equal(model["params"], at(state, 2).params)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    """The steps that follow reuse (donate) the memory the checkpoint is written from."""
    big = UNet(width=32, depth=5)
    fresh = create_state(big, optax.adamw(1e-3), 0, (32, 32))
    state = DataParallel("pmap", jax.devices()[:1]).replicate(fresh)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
    state = change(state)
    expected = jax.tree.map(np.array, to_host(state))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("latest", state, 1, {})
    for _ in range(20):
        state = change(state)
    jax.block_until_ready(state)
    checkpoints.close()
    restored, _ = Checkpoints(tmp_path).restore_latest(state)
    assert_equal(to_host(restored), expected)


def variables(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


def test_a_model_is_found_wherever_one_points(tmp_path, state):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("latest", at(state, 5), 5, {})
    checkpoints.close()
    folder = checkpoint_folder(tmp_path)
    for path in (tmp_path, folder, folder / "latest", folder / "latest" / "5"):
        model, step = restore_model(path, variables(state))
        assert step == 5
        assert_equal(model["batch_stats"], state.batch_stats)


def test_what_is_no_checkpoint_of_this_network_is_refused(tmp_path, state):
    with pytest.raises(RunError, match="holds no checkpoint"):
        restore_model(tmp_path, variables(state))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("latest", state, 5, {})
    checkpoints.close()
    wider = jax.eval_shape(UNet(width=3, depth=5).init, jax.random.key(0), jnp.zeros((1, 32, 32)))
    deeper = jax.eval_shape(UNet(width=2, depth=6).init, jax.random.key(0), jnp.zeros((1, 64, 64)))
    for other in (wider, deeper):
        with pytest.raises(RunError, match="cannot be restored, it is of another network") as error:
            restore_model(tmp_path, other)
        assert "\n" not in str(error.value)
    with pytest.raises(RunError, match=r"batch_stats/down1_norm/mean is 2, not 3, and \d+ more"):
        restore_model(tmp_path, wider)


def test_a_damaged_checkpoint_is_refused(tmp_path, state):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("latest", state, 5, {})
    checkpoints.close()
    for path in (checkpoint_folder(tmp_path) / "latest" / "5" / "model").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RunError, match="cannot be restored"):
        restore_model(tmp_path, variables(state))
    with pytest.raises(RunError, match="cannot be restored"):
        Checkpoints(tmp_path).restore_latest(state)


def test_any_part_of_a_model_is_saved_and_read_back(tmp_path, state):
    part = {"params": {"down1": state.params["down1"]}, "batch_stats": {}}
    save_model(tmp_path / "part", part)
    model, step = read_model(tmp_path / "part")
    assert step == 0
    assert named_arrays(model).keys() == {"params/down1/kernel", "params/down1/bias"}
    assert_equal(model, part)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(model))


def test_a_checkpoint_of_something_else_is_refused(tmp_path, state):
    for number, tree in enumerate(
        (
            {"weights": [jnp.ones(2)]},
            {"params": jnp.ones(2), "batch_stats": {}},
            {"params": {"a": jnp.ones(2)}, "batch_stats": {}},
        )
    ):
        save_model(tmp_path / str(number), tree)
        with pytest.raises(RunError, match="not a checkpoint of this software"):
            read_model(tmp_path / str(number))
    (tmp_path / "bare" / "model").mkdir(parents=True)
    with pytest.raises(RunError, match="cannot be restored"):
        read_model(tmp_path / "bare")


def test_differences_of_shapes():
    a = {"x": np.zeros((2, 3)), "y": {"z": np.zeros(4)}, "same": np.zeros(())}
    b = {"x": np.zeros((3, 2)), "w": np.zeros(1), "same": np.ones(())}
    assert shape_differences(a, b) == [("x", "2x3", "3x2"), ("y/z", "4", "absent"), ("w", "absent", "1")]
