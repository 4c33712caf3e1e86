"""What every feed has to do: the interface is tested through those there are."""

import jax
import numpy as np
import pytest

from tests.data.small import (
    RECIPE,
    STEREO_RECIPE,
    State,
    assert_same_sizes,
    patches_of,
    summing_evaluation,
    summing_step,
)
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.host_feed import HostFeed
from vocalsep_jax.data.resident_feed import ResidentFeed
from vocalsep_jax.data.sampling import training_plan, validation_plan
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host


def test_a_crop_has_the_samples_of_a_patch():
    assert RECIPE.crop == 62 + 31 * 21


def make(name, stores, recipe, parallel):
    if name in ("resident", "spread"):
        return ResidentFeed(stores, recipe, parallel, 1, parts=1 + (name == "spread"))
    pytest.importorskip("tensorflow", reason="needs the train extra")
    return HostFeed(stores, recipe, parallel, name)


def expected(stores, recipe):
    """The sums over the patches of each of three steps, and over each batch of validation."""

    def sums(split, plan, first, last):
        part = type(plan)(*(x[first:last] for x in plan))
        batch = patches_of(read_crops(stores[split], part, recipe.crop, np.ones(last - first)))
        return np.array([x.sum(axis=0) for x in batch[:3]])

    index = np.arange(5 * 8, dtype=np.uint32)
    training = training_plan(0, index, stores["train"].table, recipe.crop, recipe.augmentation)
    validation = validation_plan(12, stores["valid"].table, recipe.crop, recipe.augmentation)
    return (
        [sums("train", training, 8 * step, 8 * step + 8) for step in (2, 3, 4)],
        [sums("valid", validation, 0, 8), sums("valid", validation, 8, 12)],
    )


@pytest.mark.parametrize("name", ["resident", "spread", "host", "device"])
@pytest.mark.parametrize(
    ("mode", "recipe"),
    [("pmap", RECIPE), ("shard_map", RECIPE), ("pmap", STEREO_RECIPE)],
    ids=["pmap", "shard_map", "stereo"],
)
def test_every_feed_gives_the_patches_of_the_plans(stores, name, mode, recipe):
    parallel = DataParallel(mode, jax.devices()[:2])
    feed = make(name, stores, recipe, parallel)
    step, seen = feed.wrap_training(summing_step), []
    for number, work in enumerate(feed.training(2, 5, lambda step: step + 1), start=2):
        assert work.steps == 1
        assert_same_sizes(work, feed.example("train"))
        state = parallel.replicate(State.fresh(recipe)._replace(step=np.int32(number)))
        state, _ = step(state, work.batch, *work.shared)
        assert int(to_host(state.step)) == number + 1
        seen.append(to_host(state.seen))
    evaluate, weights, validated = feed.wrap_evaluation(summing_evaluation), [], []
    variables = parallel.replicate(np.float32(0))
    for work in feed.validation():
        assert_same_sizes(work, feed.example("valid"))
        sums, weight = to_host(evaluate(variables, work.batch, *work.shared))
        validated.append(sums)
        weights.append(int(weight))
    assert weights == [8, 4]
    for ours, reference in zip((seen, validated), expected(stores, recipe), strict=True):
        assert np.shape(ours) == np.shape(reference)
        for a, b in zip(np.moveaxis(ours, 1, 0), np.moveaxis(reference, 1, 0), strict=True):
            assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()
