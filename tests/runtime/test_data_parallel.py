import os
import socket
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import ROOT, random_variables
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.measures import losses
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.runtime.data_parallel import (
    AXIS,
    MODES,
    DataParallel,
    any_process,
    processes_on_this_host,
    to_host,
)
from vocalsep_jax.training.step import create_state, make_eval_step, make_train_step


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_sees_its_share_of_the_batch_and_all_of_what_is_shared(mode, devices):
    parallel = DataParallel(mode, jax.devices()[:devices])
    assert (parallel.devices, len(parallel.local)) == (devices, devices)

    def step(state, batch, shared):
        size = batch["x"].shape[0]
        total = jax.lax.psum(jnp.sum(batch["x"]), AXIS)
        place = jax.lax.psum(jax.lax.axis_index(AXIS) * batch["n"][0], AXIS)
        return {"total": state["total"] + total * shared, "size": jnp.int32(size), "place": place}

    state = parallel.replicate({"total": np.float32(1), "size": np.int32(0), "place": np.int32(0)})
    batch = parallel.shard({"x": np.arange(32, dtype=np.float32).reshape(16, 2), "n": np.arange(16)})
    shared = parallel.replicate(np.float32(2))
    result = parallel.wrap(step, donate=True, shared=1)(state, batch, shared)
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(result))
    share = 16 // devices
    expected = {"total": 1 + 2 * 496, "size": share, "place": sum(n * n * share for n in range(devices))}
    assert to_host(result) == expected
    assert state["total"].is_deleted()
    assert not shared.is_deleted()


def test_without_donation_the_first_argument_stays():
    parallel = DataParallel(devices=jax.devices()[:2])
    variables = parallel.replicate(np.ones(3, np.float32))
    evaluate = parallel.wrap(lambda x, batch: x + jax.lax.psum(batch.sum(), AXIS), donate=False)
    for _ in range(2):
        result = evaluate(variables, parallel.shard(np.ones(4, np.float32)))
    np.testing.assert_array_equal(to_host(result), np.full(3, 5))


@pytest.mark.parametrize("mode", MODES)
def test_a_step_is_compiled_ahead_of_its_first_call(mode):
    parallel = DataParallel(mode, jax.devices()[:2])
    step = parallel.wrap(lambda x, batch: x + jax.lax.pmean(batch.mean(), AXIS), donate=True)
    arguments = parallel.replicate(np.float32(1)), parallel.shard(np.float32([1, 3]))
    compiled = step.lower(*arguments).compile()
    assert not arguments[0].is_deleted()
    assert float(to_host(compiled(*arguments))) == 3


class Device(NamedTuple):
    """An accelerator that tells of its memory."""

    bytes_limit: int | None
    platform: str = "gpu"

    def memory_stats(self):
        return None if self.bytes_limit is None else {"bytes_limit": self.bytes_limit}


def test_memory_is_that_of_the_smallest_device():
    parallel = DataParallel(devices=jax.devices()[:4])
    assert parallel.memory_per_device(1000) == 250  # they share the host's
    parallel.local = [Device(700), Device(500)]
    assert parallel.memory_per_device(1000) == 500
    parallel.local = [Device(700), Device(None)]
    assert parallel.memory_per_device(1000) == 0


def test_what_cannot_be_shared_is_refused():
    parallel = DataParallel("pmap", jax.devices()[:8])
    parallel.check_batch_size(16)
    with pytest.raises(ValueError, match=r"batch_size 12 cannot be split over 8 devices.*multiple of 8"):
        parallel.check_batch_size(12)
    with pytest.raises(ValueError, match="parallel must be one of pmap, shard_map, not 'xmap'"):
        DataParallel("xmap")


def test_a_process_that_is_alone():
    assert processes_on_this_host() == 1
    assert [any_process(flag) for flag in (True, False)] == [True, False]


MODEL = UNet(width=4, depth=4, axis_name=AXIS)
PATCH = (32, 32)
# Plain gradient descent: parameters then differ as gradients do. Adam would hide a wrong factor.
OPTIMIZER = optax.sgd(0.5)


def batches(rng, steps=5, size=16):
    for _ in range(steps):
        vocals = rng.random((size, *PATCH)).astype(np.float32)
        accompaniment = rng.random((size, *PATCH)).astype(np.float32)
        yield Batch(vocals + accompaniment, vocals, accompaniment, np.ones(size, np.float32))


def trajectory(rng, mode, devices, steps=5):
    """State after each step, as NumPy."""
    parallel = DataParallel(mode, jax.devices()[:devices])
    state = parallel.replicate(create_state(MODEL, OPTIMIZER, 0, PATCH))
    step = parallel.wrap(make_train_step(MODEL, OPTIMIZER, losses.mse), donate=True)
    states = [to_host(state)]
    for batch in batches(rng, steps):
        state, _ = step(state, parallel.shard(batch))
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state))
        states.append(to_host(state))
    return states


@pytest.mark.slow
def test_the_same_statistics_gradients_and_path_on_one_and_on_eight_devices():
    paths = {(mode, n): trajectory(np.random.default_rng(0), mode, n) for mode in MODES for n in (1, 8)}
    reference = paths["pmap", 1]
    for key, path in paths.items():
        gradients = [
            jax.tree.map(lambda a, b: (a - b) / 0.5, s[0].params, s[1].params) for s in (path, reference)
        ]
        norms = [float(optax.global_norm(g)) for g in gradients]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4), key
        difference = jax.tree.map(np.subtract, *gradients)
        assert float(optax.global_norm(difference)) < 1e-3 * norms[1], key
        for state, expected in zip(path, reference, strict=True):
            assert_close(state.batch_stats, expected.batch_stats, 1e-4, key)
            assert_close(state.params, expected.params, 1e-3, key)
            assert state.totals.sums["loss"] == pytest.approx(expected.totals.sums["loss"], rel=1e-4)


def assert_close(tree, reference, tolerance, what):
    for (path, a), b in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(reference), strict=True):
        if "bias" in str(path) and "norm" not in str(path):
            continue  # a bias before BatchNorm: its true gradient is zero
        scale = max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() < tolerance * scale, (what, path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_evaluation_sums_over_devices(rng, mode):
    variables = random_variables(MODEL, PATCH)
    (batch,) = batches(rng, steps=1)
    results = []
    for devices in (1, 8):
        parallel = DataParallel(mode, jax.devices()[:devices])
        step = parallel.wrap(make_eval_step(MODEL, losses.mse), donate=False)
        results.append(to_host(step(parallel.replicate(variables), parallel.shard(batch))))
    for name in results[0]:
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-5), name
    assert results[1]["patches"] == 16


PROCESS = """
import sys
import jax
process, port, mode, out = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
assert jax.device_count() == 4  # also fixes their number before conftest asks for eight
import numpy as np
from pathlib import Path
from tests.runtime.test_data_parallel import MODEL, OPTIMIZER, PATCH, batches
from vocalsep_jax.measures import losses
from vocalsep_jax.runs.checkpoints import Checkpoints
from vocalsep_jax.runtime.data_parallel import DataParallel, any_process, processes_on_this_host, to_host
from vocalsep_jax.training.step import create_state, make_train_step

parallel = DataParallel(mode)
state = parallel.replicate(create_state(MODEL, OPTIMIZER, 0, PATCH))
step = parallel.wrap(make_train_step(MODEL, OPTIMIZER, losses.mse), donate=True)
mine = slice(8 * int(process), 8 * int(process) + 8)
for batch in batches(np.random.default_rng(0)):
    state, _ = step(state, parallel.shard(type(batch)(*(x[mine] for x in batch))))
assert any_process(process == "0")
assert not any_process(False)
assert processes_on_this_host() == 2
with Checkpoints(Path(out) / "run") as checkpoints:
    checkpoints.save("latest", 5, state.variables, state.rest, {"best_loss": None})
with Checkpoints(Path(out) / "run") as checkpoints:
    restored = checkpoints.restore_latest(state.variables, state.rest)
assert restored.facts == {"best_loss": None}
saved = to_host((state.variables, state.rest))
jax.tree.map(np.testing.assert_array_equal, to_host((restored.model, restored.training)), saved)
np.savez(Path(out) / f"{process}.npz", *jax.tree.leaves(saved[0]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_of_two_devices_do_what_one_of_four_does(tmp_path, mode):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(process), str(port), mode, str(tmp_path)],
            env=environment,
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        for process in (0, 1)
    ]
    try:
        one = jax.tree.leaves(trajectory(np.random.default_rng(0), mode, 4)[-1].variables)
        for process in pair:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()[-3000:]
    finally:
        for process in pair:  # one that waits for the other
            process.kill()

    def load(process):
        with np.load(tmp_path / f"{process}.npz") as arrays:
            return [arrays[k] for k in arrays.files]

    for a, b, c in zip(load(0), load(1), one, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() < 1e-3 * max(np.abs(c).max(), 1e-2)
