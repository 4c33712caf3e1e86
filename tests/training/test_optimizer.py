import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vocalsep_jax.config import OptimizerOptions, parse
from vocalsep_jax.training.optimizer import (
    Phase,
    carry_over,
    learning_rate_schedule,
    make_optimizer,
    training_phases,
)

ALL = Phase(0, False, False)


def settings(epochs=10, steps_per_epoch=1, optimizer=(), **changes):
    """A config of so many epochs of so many steps."""
    fields = {"learning_rate": 0.1, "weight_decay": 0.01, **dict(optimizer)}
    return parse(
        {"optimizer": fields, "epochs": epochs, "batch_size": 1, "patches_per_epoch": steps_per_epoch}
        | changes
    )


@pytest.fixture
def params():
    return {"down1": {"kernel": jnp.array([1.0, -2.0])}, "up1": {"kernel": jnp.array([3.0, 0.5, -1.0])}}


def gradients(params, step):
    return jax.tree.map(lambda x: jnp.sin(x * (step + 1.0)), params)


def run(optimizer, params, steps, state=None):
    state = optimizer.init(params) if state is None else state
    for step in steps:
        updates, state = optimizer.update(gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_learning_rate_schedules():
    constant = learning_rate_schedule(OptimizerOptions(learning_rate=0.1), 100)
    assert float(constant(0)) == float(constant(99)) == pytest.approx(0.1)
    options = OptimizerOptions(learning_rate=0.1, warmup_steps=10, schedule="cosine")
    rate = learning_rate_schedule(options, 110)
    assert float(rate(0)) == 0
    assert float(rate(5)) == pytest.approx(0.05)
    assert float(rate(10)) == pytest.approx(0.1)
    assert float(rate(60)) == pytest.approx(0.05)
    assert float(rate(110)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_one_phase_is_plain_adamw(params, clip_norm):
    plain = optax.adamw(0.1, weight_decay=0.01)
    if clip_norm:
        plain = optax.chain(optax.clip_by_global_norm(clip_norm), plain)
    ours, _ = run(make_optimizer(settings(optimizer={"clip_norm": clip_norm}), ALL), params, range(5))
    expected, _ = run(plain, params, range(5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, expected)


def test_the_encoder_s_learning_rate_is_scaled_and_the_decoder_s_is_not(params):
    ours, _ = run(make_optimizer(settings(encoder_lr_scale=0.25), ALL), params, range(3))
    for name, rate in (("down1", 0.025), ("up1", 0.1)):
        part = {name: params[name]}
        expected, _ = run(optax.adamw(rate, weight_decay=0.01), part, range(3))
        np.testing.assert_allclose(ours[name]["kernel"], expected[name]["kernel"], rtol=1e-6)


def test_a_frozen_phase_keeps_nothing_for_the_encoder(params):
    decoder = {"up1": params["up1"]}
    state = make_optimizer(settings(), Phase(0, True, True)).init(decoder)
    names = [str(path) for path, x in jax.tree.leaves_with_path(state)]
    assert not [n for n in names if "down" in n or "encoder" in n]
    assert sum(x.size for x in jax.tree.leaves(state)) == 2 * 3 + 2  # two averages and two counters


def test_an_encoder_set_free_starts_its_averages_anew_and_the_decoder_goes_on(params):
    config = settings(
        3, 3, {"warmup_steps": 4, "schedule": "cosine"}, freeze_encoder="weights", unfreeze_epoch=1
    )
    first, second = training_phases(config)
    decoder, state = run(make_optimizer(config, first), {"up1": params["up1"]}, range(3))
    after = make_optimizer(config, second)
    state = carry_over(state, after.init(params | decoder))
    ours, _ = run(after, params | decoder, range(3, 9), state)

    rate = learning_rate_schedule(config.optimizer, 9)
    alone, _ = run(optax.adamw(rate, weight_decay=0.01), {"up1": params["up1"]}, range(9))
    np.testing.assert_allclose(ours["up1"]["kernel"], alone["up1"]["kernel"], rtol=1e-6)
    late = optax.adamw(lambda count: rate(count + 3), weight_decay=0.01)
    alone, _ = run(late, {"down1": params["down1"]}, range(3, 9))
    np.testing.assert_allclose(ours["down1"]["kernel"], alone["down1"]["kernel"], rtol=1e-6)


def test_nothing_that_was_known_is_dropped_at_the_change(params):
    old = make_optimizer(settings(optimizer={"clip_norm": 1.0}), Phase(0, True, False)).init(
        {"up1": params["up1"]}
    )
    with pytest.raises(AssertionError, match="grown apart"):
        carry_over(old, optax.sgd(0.1, momentum=0.9).init(params))


def test_phases():
    assert training_phases(settings()) == (ALL,)
    assert training_phases(settings(freeze_encoder="weights")) == (Phase(0, True, False),)
    both = settings(3, 10, freeze_encoder="weights_and_statistics", unfreeze_epoch=2)
    assert training_phases(both) == (Phase(0, True, True), Phase(20, False, False))


def test_muon_moves_a_kernel_alike_in_all_directions_and_the_rest_as_nadam_does(rng):
    kernel = jnp.asarray(rng.standard_normal((4, 4, 3, 6)), jnp.float32)
    params = {"down1": {"kernel": kernel, "bias": jnp.arange(6.0)}, "up1": {"kernel": kernel[..., :5]}}
    fields = {"kind": "muon", "learning_rate": 0.01, "weight_decay": 0.0}
    muon = make_optimizer(settings(optimizer=fields), ALL)
    after, _ = run(muon, params, range(1))
    for layer in ("down1", "up1"):
        update = (after[layer]["kernel"] - params[layer]["kernel"]).reshape(48, -1)
        stretch = np.linalg.svd(update, compute_uv=False)
        assert stretch.max() < 2 * stretch.min()  # Newton-Schulz stops short of a rotation
        assert float(jnp.sqrt(jnp.mean(update**2))) == pytest.approx(0.2 * 0.01, rel=0.3)
    nadam, _ = run(optax.nadam(0.01), params, range(1))
    np.testing.assert_allclose(after["down1"]["bias"], nadam["down1"]["bias"], rtol=1e-5)


def test_muon_goes_on_in_the_decoder_when_the_encoder_is_set_free(rng):
    kernel = jnp.asarray(rng.standard_normal((4, 4, 3, 6)), jnp.float32)
    params = {"down1": {"kernel": kernel}, "up1": {"kernel": kernel[..., :5]}}
    fields = {"kind": "muon", "learning_rate": 0.01}
    frozen = make_optimizer(settings(optimizer=fields), Phase(0, True, True))
    _, known = run(frozen, {"up1": params["up1"]}, range(2))
    fresh = make_optimizer(settings(optimizer=fields), ALL).init(params)
    free = dict(jax.tree.leaves_with_path(carry_over(known, fresh)))
    known = dict(jax.tree.leaves_with_path(known))
    assert any(x.ndim == 4 and np.any(x) for x in known.values())
    for path, x in jax.tree.leaves_with_path(fresh):
        np.testing.assert_array_equal(free[path], known.get(path, x))
