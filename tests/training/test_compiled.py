import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_network import random_batch, small_config
from vocalsep_jax.data.crops import TARGETS
from vocalsep_jax.data.feed import Work
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host
from vocalsep_jax.training.compiled import (
    compile_in_background,
    evaluation_step,
    network_alone,
    training_step,
)
from vocalsep_jax.training.optimizer import Phase
from vocalsep_jax.training.step import QUALITIES, create_state

pytestmark = pytest.mark.usefixtures("_small_network")


class ArrayFeed:
    """A feed whose work is a batch of arrays."""

    def __init__(self):
        self.parallel = DataParallel("pmap", jax.devices()[:2])
        self.wrap_training = functools.partial(self.parallel.wrap, donate=True)
        self.wrap_evaluation = functools.partial(self.parallel.wrap, donate=False)


@pytest.fixture(scope="module")
def feed():
    return ArrayFeed()


def first_state(config, step, phase, feed):
    fresh = create_state(
        config.network(), step.optimizer, 0, config.patch, freeze_encoder=phase.freeze_encoder
    )
    return feed.parallel.replicate(fresh)


@pytest.mark.parametrize(
    "phase", [Phase(0, False, False), Phase(0, True, False), Phase(0, True, True)], ids=str
)
def test_a_step_trains_what_its_phase_trains(feed, rng, phase):
    config = small_config()
    step = training_step(config, phase, feed)
    state = first_state(config, step, phase, feed)
    before = to_host(state)
    for _ in range(2):
        state, loss = step.run(state, feed.parallel.shard(random_batch(rng)))
    assert np.isfinite(float(loss))
    after = to_host(state)

    def changed(part, name):
        pairs = zip(*(jax.tree.leaves(getattr(x, part)[name]) for x in (before, after)), strict=True)
        return any(not np.array_equal(a, b) for a, b in pairs)

    assert changed("params", "up1")
    assert changed("params", "up2")
    assert changed("batch_stats", "up1_norm")
    assert changed("params", "down1") == (not phase.freeze_encoder)
    assert changed("params", "down1_norm") == (not phase.freeze_encoder)
    assert changed("batch_stats", "down1_norm") == (not phase.freeze_statistics)


def test_evaluation_is_of_the_loss_that_the_config_names(feed, rng):
    config = small_config(loss="l1")
    variables = config.network().init(jax.random.key(0), jnp.zeros((1, 32, 32)))
    batch = random_batch(rng)
    sums = evaluation_step(config, feed)(feed.parallel.replicate(variables), feed.parallel.shard(batch))
    assert sums.keys() == {*QUALITIES, "patches"}
    masks = np.asarray(network_alone(config)(variables, batch.mixture))
    np.testing.assert_allclose(masks, config.network().apply(variables, batch.mixture), rtol=1e-6)
    expected = np.abs(masks * batch.mixture - batch.vocals).mean(axis=(1, 2)).sum()
    assert float(sums["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(sums["patches"]) == 4


@pytest.mark.parametrize("target", TARGETS)
def test_steps_are_of_the_target_that_the_config_names(feed, rng, target):
    config, phase = small_config(target=target), Phase(0, False, False)
    batch = random_batch(rng)
    batch = batch._replace(mixture=batch.mixture / 2)
    step = training_step(config, phase, feed)
    state = first_state(config, step, phase, feed)
    variables = to_host(state.variables)
    wanted = TARGETS[target](batch)
    masks = config.network().apply(variables, batch.mixture)
    sums = evaluation_step(config, feed)(state.variables, feed.parallel.shard(batch))
    expected = np.square(masks * batch.mixture - wanted).mean(axis=(1, 2)).sum()
    assert float(sums["loss"]) == pytest.approx(float(expected), rel=1e-5)
    masks, _ = config.network().apply(variables, batch.mixture, train=True, mutable=["batch_stats"])
    _, loss = step.run(state, feed.parallel.shard(batch))
    assert float(loss) == pytest.approx(float(np.square(masks * batch.mixture - wanted).mean()), rel=1e-4)


def test_what_was_compiled_in_the_background_is_not_compiled_again(feed, rng):
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    config = small_config()
    phase = Phase(0, False, False)
    step = training_step(config, phase, feed)
    state = first_state(config, step, phase, feed)
    batch = feed.parallel.shard(random_batch(rng))
    jax.block_until_ready((state, batch))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        compile_in_background([(step.run, state, Work(1, batch))]).join()
        assert len(compiled) > 0
        compiled.clear()
        jax.block_until_ready(step.run(state, batch))  # the state is there still: it was not used up
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_step_that_does_not_compile_says_so_when_it_is_called():
    class Lowered:
        def __init__(self):
            self.compiled = 0

        def lower(self, *arguments):
            assert arguments == ("state", "batch", "songs", 3)
            return self

        def compile(self):
            self.compiled += 1

    class Broken:
        def lower(self, *_):
            raise ValueError("no such thing")

    good, work = Lowered(), Work(1, "batch", ("songs", 3))
    compile_in_background([(Broken(), "state", work), (good, "state", work)]).join()
    assert good.compiled == 1
