import numpy as np
import pytest

from tests.conftest import random_variables
from vocalsep_jax.coseparation import proof
from vocalsep_jax.models.unet import UNet


@pytest.fixture
def model():
    return random_variables(UNet(4, 4), (16, 16))


def encoder_of(model):
    return {kind: {k: v for k, v in tree.items() if k.startswith("down")} for kind, tree in model.items()}


def test_the_input_is_a_log_magnitude():
    x = proof.proof_input()
    assert (x.shape, x.dtype) == ((1, 256, 256), np.float32)
    assert np.isfinite(x).all()
    assert x.std() > 0.3


def test_a_wrong_weight_is_noticed_from_its_block_on(model, rng):
    encoder = encoder_of(model)
    x = rng.standard_normal((1, 32, 16)).astype(np.float32)
    right = proof.activations(encoder, x)
    assert list(right) == [f"down{n}" for n in range(1, 5)]
    encoder["batch_stats"]["down3_norm"]["var"] = encoder["batch_stats"]["down3_norm"]["var"] * 1.01
    found = proof.relative_differences(proof.activations(encoder, x), right)
    assert found["down2"] == 0
    assert found["down3"] > proof.TOLERANCE


def test_a_whole_network_has_the_blocks_of_its_decoder_and_the_encoder_s_are_the_same(model, rng):
    x = rng.standard_normal((1, 32, 16)).astype(np.float32)
    whole = proof.activations(model, x)
    assert whole["up4"].shape == (1, 32, 16, 1)
    assert whole.keys() == {f"{direction}{n}" for direction in ("down", "up") for n in range(1, 5)}
    differences = proof.relative_differences(whole, proof.activations(encoder_of(model), x))
    assert len(differences) == 4
    assert max(differences.values()) < proof.TOLERANCE


def test_differences_are_relative_to_the_largest_number_and_infinite_where_it_is_none():
    reference = {"a": np.array([1.0, -4.0]), "b": np.array([1.0]), "c": np.zeros(2)}
    found = {"a": np.array([1.5, -4.0]), "b": np.array([np.nan]), "c": np.zeros(2)}
    assert proof.relative_differences(found, reference) == {"a": 0.125, "b": np.inf, "c": 0}
