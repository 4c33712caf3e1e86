import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep_jax import spectral
from vocalsep_jax.spectral import Stft

RECIPE = Stft(510, 172)


def test_the_recipe_has_256_bins_and_patches_of_44370_samples():
    assert RECIPE.bins == 256
    assert RECIPE.samples(256) == 44_370


def test_frames_are_those_of_scipy(rng):
    x = rng.standard_normal(RECIPE.samples(20)).astype(np.float32)
    window = scipy.signal.get_window("hann", 510, fftbins=True)
    _, _, expected = scipy.signal.stft(
        x.astype(np.float64), window=window, nperseg=510, noverlap=338, boundary=None, padded=False
    )
    expected = expected * window.sum()  # scipy scales by the window's sum
    ours = RECIPE.transform(x)
    assert ours.dtype == np.complex64
    assert ours.shape == expected.shape == (256, 20)
    assert np.abs(ours - expected).max() < 1e-6 * np.abs(expected).max()


@settings(deadline=None, max_examples=60)
@given(
    samples=st.one_of(st.integers(1, 600), st.integers(1, 5000)),
    channels=st.integers(1, 3),
    stft=st.sampled_from([RECIPE, Stft(62, 21), Stft(8, 4), Stft(1022, 256)]),
)
def test_synthesis_gives_back_a_signal_of_any_length(samples, channels, stft):
    x = np.random.default_rng(samples).uniform(-1, 1, (samples, channels)).astype(np.float32)
    spectrogram = stft.analyse(x)
    assert spectrogram.shape == (channels, stft.bins, stft.frames(samples))
    y = stft.synthesise(spectrogram, samples)
    assert y.shape == x.shape
    assert np.abs(y - x).max() < 2e-6


def test_a_mask_of_ones_returns_the_input(rng):
    x = rng.uniform(-1, 1, (30_000, 2)).astype(np.float32)
    y = spectral.apply_mask(x, RECIPE, np.ones_like)
    assert np.abs(y - x).max() < 2e-6


def test_a_hop_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="hop"):
        Stft(510, 300)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2000), st.integers(1, 64), st.floats(0, 0.99))
def test_patches_cover_every_frame(frames, length, overlap):
    starts = spectral.patch_starts(frames, length, overlap)
    covered = np.zeros(int(starts[-1]) + length, int)
    for s in starts:
        covered[s : s + length] += 1
    assert starts[0] == 0
    assert covered.min() >= 1
    assert len(covered) >= frames
    assert len(starts) == 1 or starts[-1] + length - max(1, round(length * (1 - overlap))) < frames


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_an_impossible_overlap_is_refused(overlap):
    with pytest.raises(ValueError, match="overlap"):
        spectral.patch_starts(100, 10, overlap)


class TestPredictMask:
    """A mask put together from patches."""

    def predict(self, magnitude, function, **options):
        defaults = {"patch_frames": 16, "batch_size": 3, "overlap": 0.5}
        return spectral.predict_mask(magnitude, function, **(defaults | options))

    @pytest.mark.parametrize("frames", [1, 15, 16, 17, 40, 100])
    @pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
    def test_of_a_pointwise_network_is_that_network(self, rng, frames, overlap):
        magnitude = rng.random((2, 8, frames)).astype(np.float32)
        mask = self.predict(magnitude, lambda x: x / (1 + x), overlap=overlap)
        np.testing.assert_allclose(mask, magnitude / (1 + magnitude), atol=1e-6)

    def test_does_not_depend_on_the_batch_size(self, rng):
        magnitude = rng.random((2, 8, 90)).astype(np.float32)

        def network(x):  # depends on the whole patch
            return x * x.mean(axis=(1, 2), keepdims=True)

        masks = [self.predict(magnitude, network, batch_size=b) for b in (1, 4, 64)]
        np.testing.assert_array_equal(masks[0], masks[1])
        np.testing.assert_array_equal(masks[0], masks[2])

    def test_calls_the_network_with_one_shape(self, rng):
        shapes = set()

        def network(x):
            shapes.add(x.shape)
            return x

        self.predict(rng.random((2, 8, 90)).astype(np.float32), network)
        assert shapes == {(3, 8, 16)}

    def test_neighbouring_patches_fade_into_each_other(self):
        calls = iter(range(100))

        def network(x):  # a different constant for each patch
            return np.full_like(x, next(calls) % 2)

        mask = self.predict(np.ones((1, 4, 200), np.float32), network, batch_size=1)[0, 0]
        assert mask.min() == 0
        assert mask.max() == 1
        assert np.abs(np.diff(mask)).max() < 0.25


def test_the_ideal_mask_separates_what_does_not_overlap():
    t = np.arange(44_100) / 44_100
    low, high = (np.sin(2 * np.pi * f * t).astype(np.float32)[:, None] for f in (500, 5000))
    mask = spectral.ideal_ratio_mask(low, high, RECIPE)
    estimate = spectral.apply_mask(low + high, RECIPE, lambda _: mask)
    assert np.abs(estimate - low)[1000:-1000].max() < 0.01
