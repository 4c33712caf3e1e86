import jax
import numpy as np
import pytest

from tests.data.small import (
    RECIPE,
    STEREO_RECIPE,
    State,
    assert_same_patches,
    assert_same_sizes,
    patches_of,
    summing_step,
)
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.resident import ResidentSongs
from vocalsep_jax.data.resident_feed import ResidentFeed, training_batch
from vocalsep_jax.data.sampling import training_plan
from vocalsep_jax.runtime.data_parallel import MODES, DataParallel, to_host


@pytest.mark.parametrize("recipe", [RECIPE, STEREO_RECIPE], ids=["one channel", "stereo"])
def test_a_batch_made_on_the_device_is_that_of_the_plan(stores, recipe):
    index = np.arange(8, dtype=np.uint32) + np.uint32(2**32 - 20)
    songs = ResidentSongs.of(stores["train"], recipe.crop, jax.device_put)
    batch = jax.jit(lambda songs, index: training_batch(songs, index, recipe))(songs, index)
    plan = training_plan(0, index, stores["train"].table, recipe.crop, recipe.augmentation)
    expected = patches_of(read_crops(stores["train"], plan, recipe.crop, np.ones(8)))
    assert_same_patches(batch, expected)


def test_a_dispatch_ends_where_something_is_due(stores):
    feed = ResidentFeed(stores, RECIPE, DataParallel(), 4)
    works = list(feed.training(2, 21, lambda step: step // 10 * 10 + 10))
    assert [work.steps for work in works] == [4, 4, 4, 4, 2, 1]
    assert [int(to_host(work.shared[1])) for work in works] == [4, 4, 4, 4, 2, 1]
    assert works[0].shared[1] is works[1].shared[1]  # sent once
    for work in works:
        assert_same_sizes(work, feed.example("train"))


def test_on_a_cpu_a_dispatch_is_a_step(stores):
    feed = ResidentFeed(stores, RECIPE, DataParallel())
    assert [work.steps for work in feed.training(0, 3, lambda step: 3)] == [1, 1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_many_steps_in_a_dispatch_are_the_same_steps(stores, mode):
    parallel = DataParallel(mode, jax.devices()[:2])
    results = []
    for steps in (1, 4):
        feed = ResidentFeed(stores, RECIPE, parallel, steps)
        step, state, calls = feed.wrap_training(summing_step), parallel.replicate(State.fresh()), 0
        for work in feed.training(0, 6, lambda step: 6):
            state, loss = step(state, work.batch, *work.shared)
            calls += 1
        results.append((calls, *to_host((*state, loss))))
    assert [calls for calls, *_ in results] == [6, 2]
    (_, count, seen, loss), (_, other_count, other_seen, other_loss) = results
    assert count == other_count == 6
    np.testing.assert_allclose(other_seen, seen, rtol=1e-5)
    assert other_loss == pytest.approx(loss, rel=1e-5)
