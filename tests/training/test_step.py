import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.small_network import TwoLayers, random_batch
from vocalsep_jax.data.crops import TARGETS, Batch, in_phase
from vocalsep_jax.measures import losses
from vocalsep_jax.models.unet import UNet, is_encoder
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host
from vocalsep_jax.training.step import (
    AXIS,
    create_state,
    kept_bytes,
    make_eval_step,
    make_objective,
    make_train_step,
    patch_qualities,
    trained_params,
)

SMALL = TwoLayers(axis_name=AXIS)
UNET = UNet(width=4, depth=4, axis_name=AXIS)
SIDE = 16  # the least that UNET takes


@pytest.fixture(scope="module")
def one_device():
    return DataParallel("pmap", jax.devices()[:1])


@pytest.mark.slow
def test_overfitting_one_batch_drives_the_loss_to_near_zero(rng, one_device):
    optimizer = optax.adamw(3e-3)
    model = UNet(8, 5, axis_name=AXIS)
    batch = one_device.shard(random_batch(rng, size=2))
    state = one_device.replicate(create_state(model, optimizer, 0, (32, 32)))
    step = one_device.wrap(make_train_step(model, optimizer, losses.mse), donate=True)
    values = []
    for _ in range(600):
        state, loss = step(state, batch)
        values.append(loss)
    assert float(values[-1]) < 0.01 * float(values[0])


def test_a_step_is_adamw_on_the_mean_loss(rng, one_device):
    batch = random_batch(rng)
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    state = create_state(SMALL, optimizer, 0, (32, 32))

    def objective(params):
        mask, _ = TwoLayers().apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.mixture,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean((mask * batch.mixture - batch.vocals) ** 2)

    value, grads = jax.jit(jax.value_and_grad(objective))(state.params)
    step = one_device.wrap(make_train_step(SMALL, optimizer, losses.mse), donate=False)
    after, loss = step(one_device.replicate(state), one_device.shard(batch))
    assert float(loss) == pytest.approx(float(value), rel=1e-5)
    # First step of AdamW (Loshchilov & Hutter): sign-like update plus decoupled decay.
    for name in ("up1", "up2"):
        p, g = np.asarray(state.params[name]["kernel"]), np.asarray(grads[name]["kernel"])
        expected = p - 1e-2 * (g / (np.abs(g) + 1e-8) + 0.1 * p)
        assert np.median(np.abs(np.asarray(after.params[name]["kernel"]) - expected)) < 1e-5
    assert int(after.step) == 1
    sums = to_host(after.totals.sums)
    assert float(sums["grad_norm"]) == pytest.approx(float(optax.global_norm(grads)), rel=1e-4)
    assert float(sums["param_norm"]) == pytest.approx(float(optax.global_norm(after.params)), rel=1e-5)
    moved = jax.tree.map(jnp.subtract, to_host(after.params), state.params)
    assert float(sums["update_norm"]) == pytest.approx(float(optax.global_norm(moved)), rel=1e-3)


@pytest.mark.slow
def test_rematerialisation_keeps_less_and_changes_nothing(rng, one_device):
    optimizer = optax.sgd(1e-2)
    batch = random_batch(rng, side=SIDE)
    state = create_state(UNET, optimizer, 0, (SIDE, SIDE))
    results, kept = [], []
    for rematerialise in (False, True):
        step = make_train_step(UNET, optimizer, losses.mse, rematerialise=rematerialise)
        wrapped = one_device.wrap(step, donate=False)
        after, _ = wrapped(one_device.replicate(state), one_device.shard(batch))
        results.append(to_host(after))
        objective = make_objective(UNet(width=4, depth=4), losses.mse, rematerialise=rematerialise)
        kept.append([kept_bytes(objective, state, Batch(*(x[:n] for x in batch))) for n in (1, 4)])
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # What a patch adds. Convolutions' outputs are all that has to be kept, float32, a half of it in `down1`
    # and `up3` each; and the patch itself, as the three arrays of the batch.
    (few, many), (few_anew, many_anew) = kept
    outputs = 4 * (2 * (4 * 8**2 + 8 * 4**2 + 16 * 2**2) + 32 + 16**2)
    assert outputs <= (many_anew - few_anew) / 3 <= outputs + 4 * 4 * 16**2
    assert many_anew - few_anew < 0.4 * (many - few)


def of_another_phase(batch, rng):
    """A batch whose vocals are at any angle to its accompaniment: their part in phase is not they."""
    between = batch.vocals + batch.accompaniment * np.exp(2j * np.pi * rng.random(batch.vocals.shape))
    return batch._replace(mixture=np.abs(between).astype(np.float32))


def test_targets_are_the_vocals_and_their_part_in_phase(rng):
    batch = of_another_phase(random_batch(rng), rng)
    assert TARGETS.keys() == {"vocals", "in_phase"}
    np.testing.assert_array_equal(TARGETS["vocals"](batch), batch.vocals)
    np.testing.assert_array_equal(TARGETS["in_phase"](batch), in_phase(batch))
    assert np.abs(in_phase(batch) - batch.vocals).max() > 0.1


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_of_the_target(rng, one_device, target):
    """In training and in evaluation; metrics are of the vocals whatever it is."""
    batch = of_another_phase(random_batch(rng), rng)
    state = create_state(SMALL, optax.sgd(0.0), 0, (32, 32))
    mask, _ = TwoLayers().apply(state.variables, batch.mixture, train=True, mutable=["batch_stats"])
    expected = np.mean((mask * batch.mixture - TARGETS[target](batch)) ** 2)
    step = one_device.wrap(make_train_step(SMALL, optax.sgd(0.0), losses.mse, target), donate=False)
    _, loss = step(one_device.replicate(state), one_device.shard(batch))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)

    mask = TwoLayers().apply(state.variables, batch.mixture)
    each = np.mean((mask * batch.mixture - TARGETS[target](batch)) ** 2, axis=(1, 2))
    step = one_device.wrap(make_eval_step(SMALL, losses.mse, target), donate=False)
    sums = step(one_device.replicate(state.variables), one_device.shard(batch))
    assert float(sums["loss"]) == pytest.approx(float(each.sum()), rel=1e-5)

    qualities = patch_qualities(losses.mse, mask, batch, target)
    np.testing.assert_allclose(qualities["loss"], each, rtol=1e-5)
    of_vocals = patch_qualities(losses.mse, mask, batch)
    for name in qualities.keys() - {"loss"}:
        np.testing.assert_array_equal(qualities[name], of_vocals[name])


def test_without_a_target_it_is_the_vocals(rng, one_device):
    batch, mask = of_another_phase(random_batch(rng), rng), rng.random((4, 32, 32)).astype(np.float32)
    default, named = (patch_qualities(losses.l1, mask, batch, *x) for x in ((), ("vocals",)))
    np.testing.assert_array_equal(default["loss"], named["loss"])


def test_stereo_patches_are_trained_on_and_evaluated(rng, one_device):
    """Channels are averaged in all that is measured."""
    left, right = (of_another_phase(random_batch(rng), rng) for _ in range(2))
    batch = Batch(
        *(
            np.stack(pair, axis=-1) if pair[0].ndim > 1 else pair[0]
            for pair in zip(left, right, strict=True)
        )
    )
    model, optimizer = TwoLayers(channels=2, axis_name=AXIS), optax.adamw(1e-2)
    state = create_state(model, optimizer, 0, (32, 32, 2))
    mask = TwoLayers(channels=2).apply(state.variables, batch.mixture)
    step = one_device.wrap(make_eval_step(model, losses.mse, "in_phase"), donate=False)
    sums = step(one_device.replicate(state.variables), one_device.shard(batch))
    error = np.square(mask * batch.mixture - TARGETS["in_phase"](batch))
    assert float(sums["loss"]) == pytest.approx(float(np.sum(error.mean(axis=(1, 2, 3)))), rel=1e-5)
    # The ratio mask and the binary one are as large as two patches.
    ideal = batch.vocals / np.maximum(batch.vocals + batch.accompaniment, 1e-10)
    agree = (2 * np.sum(mask * ideal, axis=(1, 2, 3)) + 1) / (np.sum(mask + ideal, axis=(1, 2, 3)) + 1)
    assert float(sums["soft_dice"]) == pytest.approx(float(agree.sum()), rel=1e-4)

    step = one_device.wrap(make_train_step(model, optimizer, losses.mse, "in_phase"), donate=True)
    state, seen = one_device.replicate(state), []
    for _ in range(20):
        state, loss = step(state, one_device.shard(batch))
        seen.append(float(loss))
    assert seen[-1] < 0.95 * seen[0]


def test_the_first_step_that_is_not_finite_is_remembered(rng, one_device):
    optimizer = optax.adamw(1e-3)
    good, bad = random_batch(rng), random_batch(rng)
    bad.vocals[0, 0, 0] = np.nan
    state = one_device.replicate(create_state(SMALL, optimizer, 0, (32, 32)))
    step = one_device.wrap(make_train_step(SMALL, optimizer, losses.mse), donate=True)
    for batch, expected in ((good, -1), (bad, 2), (good, 2)):
        state, _ = step(state, one_device.shard(batch))
        assert int(to_host(state.totals.nonfinite_step)) == expected


def test_totals_add_up_until_they_are_started_anew(rng, one_device):
    optimizer = optax.adamw(1e-3)
    state = one_device.replicate(create_state(SMALL, optimizer, 0, (32, 32)))
    step = one_device.wrap(make_train_step(SMALL, optimizer, losses.mse), donate=True)
    seen = []
    for _ in range(3):
        state, loss = step(state, one_device.shard(random_batch(rng)))
        seen.append(float(loss))
    totals = to_host(state.totals)
    assert int(totals.steps) == 3
    assert float(totals.sums["loss"]) == pytest.approx(sum(seen), rel=1e-6)
    assert 0 < float(totals.sums["dice"]) < 3


def test_evaluation_counts_each_patch_once_and_padding_never(rng, one_device):
    variables = jax.jit(SMALL.init)(jax.random.key(0), jnp.zeros((1, 32, 32)))
    step = one_device.wrap(make_eval_step(SMALL, losses.mse), donate=False)
    full = random_batch(rng, size=4)
    whole = step(one_device.replicate(variables), one_device.shard(full))
    padded = full._replace(weight=np.array([1, 1, 1, 0], np.float32))
    part = step(one_device.replicate(variables), one_device.shard(padded))
    mask = jax.jit(SMALL.apply)(variables, full.mixture)
    each = np.asarray(losses.mse(mask * full.mixture, full.vocals))
    assert float(whole["patches"]) == 4
    assert float(part["patches"]) == 3
    assert float(whole["loss"]) == pytest.approx(each.sum(), rel=1e-5)
    assert float(part["loss"]) == pytest.approx(each[:3].sum(), rel=1e-5)


def test_a_frozen_encoder_stays_and_the_optimiser_never_sees_it(rng, one_device):
    seen = []
    adamw = optax.adamw(1e-2)

    def update(grads, state, params):
        seen.extend([set(grads), set(params)])
        return adamw.update(grads, state, params)

    optimizer = optax.GradientTransformation(adamw.init, update)
    state = create_state(SMALL, optimizer, 0, (32, 32), freeze_encoder=True)
    before = to_host(one_device.replicate(state))
    decoder = trained_params(state.params, freeze_encoder=True)
    assert decoder.keys() == {"up1", "up1_norm", "up2"}
    size = sum(x.size for x in jax.tree.leaves(decoder))
    assert sum(x.size for x in jax.tree.leaves(state.opt_state)) == 2 * size + 1
    frozen = make_train_step(SMALL, optimizer, losses.mse, freeze_encoder=True)
    step = one_device.wrap(frozen, donate=True)
    state = one_device.replicate(state)
    for _ in range(3):
        state, _ = step(state, one_device.shard(random_batch(rng)))
    after = to_host(state)
    assert seen[:2] == [set(decoder)] * 2
    for name, layer in before.params.items():
        for part, x in layer.items():
            same = np.array_equal(x, after.params[name][part])
            assert same == is_encoder(name), (name, part)
    # Batch statistics go on: these weights are frozen, not the averages of what they give.
    assert (before.batch_stats["down1_norm"]["mean"] != after.batch_stats["down1_norm"]["mean"]).all()


@pytest.mark.slow
def test_a_frozen_encoder_costs_no_gradient(rng):
    def flops(freeze):
        optimizer = optax.adamw(1e-2)
        step = make_train_step(UNET, optimizer, losses.mse, freeze_encoder=freeze)
        state = jax.eval_shape(
            lambda: create_state(UNET, optimizer, 0, (SIDE, SIDE), freeze_encoder=freeze)
        )
        mapped = jax.vmap(step, in_axes=(None, 0), axis_name=AXIS)
        batch = jax.tree.map(lambda x: x[None], random_batch(rng, side=SIDE))
        return jax.jit(mapped).lower(state, batch).compile().cost_analysis()["flops"]

    # Forward is a third of a step; of the other two, the encoder's share is not done.
    assert flops(freeze=True) < 0.85 * flops(freeze=False)


@pytest.mark.parametrize(("name", "power"), [("mse", 2), ("l1", 1)])
def test_log_objective_is_the_mean_of_logarithms_and_the_reported_loss_stays(rng, name, power):
    batch = random_batch(rng, size=3)
    loud = jax.tree.map(lambda x: x * np.float32([1, 10, 100]).reshape(-1, *[1] * (x.ndim - 1)), batch)
    model = TwoLayers()
    state = create_state(model, optax.sgd(1.0), 0, batch.mixture.shape[1:])
    over_patches = functools.partial(losses.log, floor=0.1)
    plain, log = (
        make_objective(model, losses.LOSSES[name], over_patches=x) for x in (losses.mean, over_patches)
    )
    value, (_, means) = plain(state.params, state, loud)
    weighed, (_, same) = log(state.params, state, loud)
    assert means == same
    assert value == means["loss"]
    mask, _ = model.apply(state.variables, loud.mixture, train=True, mutable=["batch_stats"])
    each = np.mean(np.abs(mask * loud.mixture - loud.vocals) ** power, axis=(1, 2))
    whole = np.mean(np.abs(loud.mixture) ** power, axis=(1, 2)) + 1e-3
    np.testing.assert_allclose(weighed, np.mean(np.log((each + 0.1 * whole) / (1.1 * whole))), rtol=1e-5)
