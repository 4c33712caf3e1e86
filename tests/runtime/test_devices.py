import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import ROOT
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.measures import losses
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.runtime.devices import MODES, DataParallel, to_host
from vocalsep_jax.training.step import AXIS, create_state, make_eval_step, make_train_step

MODEL = UNet(width=4, depth=5, axis_name=AXIS)
# Plain gradient descent: parameters then differ as gradients do. Adam would hide a wrong factor.
OPTIMIZER = optax.sgd(0.5)


def batches(rng, steps=5, size=16):
    for _ in range(steps):
        vocals = rng.random((size, 32, 32)).astype(np.float32)
        accompaniment = rng.random((size, 32, 32)).astype(np.float32)
        yield Batch(vocals + accompaniment, vocals, accompaniment, np.ones(size, np.float32))


def trajectory(rng, mode, devices, steps=5):
    """State after each step, as NumPy."""
    parallel = DataParallel(mode, jax.devices()[:devices])
    state = parallel.replicate(create_state(MODEL, OPTIMIZER, 0, (32, 32)))
    step = parallel.wrap(make_train_step(MODEL, OPTIMIZER, losses.mse), donate=True)
    states = [to_host(state)]
    for batch in batches(rng, steps):
        state, _ = step(state, parallel.shard(batch))
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state))
        states.append(to_host(state))
    return states


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


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_sums_over_devices(rng, mode):
    variables = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 32, 32)))
    (batch,) = batches(rng, steps=1)
    results = []
    for devices in (1, 8):
        parallel = DataParallel(mode, jax.devices()[:devices])
        step = parallel.wrap(make_eval_step(MODEL, losses.mse), donate=False)
        pair = parallel.replicate((variables["params"], variables["batch_stats"]))
        results.append(to_host(step(pair, parallel.shard(batch))))
    for name in results[0]:
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-5), name
    assert results[1]["patches"] == 16


def test_what_cannot_be_shared_is_refused():
    parallel = DataParallel("pmap", jax.devices()[:8])
    parallel.check_batch_size(16)
    with pytest.raises(ValueError, match="multiple of 8"):
        parallel.check_batch_size(12)
    with pytest.raises(ValueError, match="parallel"):
        DataParallel("xmap")


PROCESS = """
import json, sys
import jax
process, count, port, mode, out = sys.argv[1:]
if count == "2":
    jax.distributed.initialize(f"localhost:{port}", int(count), int(process))
assert jax.device_count() == 4  # also fixes their number before conftest asks for eight
import numpy as np
from tests.test_parallel import MODEL, OPTIMIZER, batches
from vocalsep_jax import losses
from vocalsep_jax.checkpoints import Checkpoints
from vocalsep_jax.parallel import DataParallel, any_process, to_host
from vocalsep_jax.train_step import create_state, make_train_step
from pathlib import Path

parallel = DataParallel(mode)
state = parallel.replicate(create_state(MODEL, OPTIMIZER, 0, (32, 32)))
step = parallel.wrap(make_train_step(MODEL, OPTIMIZER, losses.mse), donate=True)
share = 16 // int(count)
for batch in batches(np.random.default_rng(0)):
    mine = slice(int(process) * share, (int(process) + 1) * share)
    state, _ = step(state, parallel.shard(type(batch)(*(x[mine] for x in batch))))
assert any_process(process == "0")
assert not any_process(False)
checkpoints = Checkpoints(Path(out) / "run")
checkpoints.save("latest", state, 5, {"best_loss": None})
checkpoints.close()
restored, _ = Checkpoints(Path(out) / "run").restore_latest(state)
for a, b in zip(jax.tree.leaves(to_host(restored)), jax.tree.leaves(to_host(state)), strict=True):
    np.testing.assert_array_equal(a, b)
leaves = jax.tree.leaves(to_host((state.params, state.batch_stats)))
np.savez(Path(out) / f"{process}.npz", *leaves)
"""


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_of_two_devices_do_what_one_of_four_does(tmp_path, mode):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def start(process, count, devices, out):
        out.mkdir(exist_ok=True)
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": str(ROOT),
        }
        arguments = [sys.executable, "-c", PROCESS, str(process), str(count), str(port), mode, str(out)]
        return subprocess.Popen(arguments, env=environment, cwd=ROOT, stderr=subprocess.PIPE)

    def finish(process):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-3000:]

    pair = [start(n, 2, 2, tmp_path / "two") for n in (0, 1)]
    for process in pair:
        finish(process)
    finish(start(0, 1, 4, tmp_path / "one"))

    def load(path):
        with np.load(path) as arrays:
            return [arrays[k] for k in arrays.files]

    two, other, one = (load(tmp_path / p) for p in ("two/0.npz", "two/1.npz", "one/0.npz"))
    for a, b, c in zip(two, other, one, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() < 1e-3 * max(np.abs(c).max(), 1e-2)
