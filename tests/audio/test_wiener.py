import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.audio.wiener import WINDOW, Spread, wiener_window

BINS = 3


def noise(rng, frames=WINDOW, gain=1.0):
    """Complex noise `[F, N]`."""
    x = rng.standard_normal((2, BINS, frames)) * gain
    return (x[0] + 1j * x[1]).astype(np.complex64)


def by_definition(mixture, voice):
    """The update of one window, matrix by matrix, in double precision."""
    mixture, voice = mixture.astype(complex), voice.astype(complex)
    sources = [voice, mixture - voice]
    out = np.zeros_like(mixture)
    for f in range(mixture.shape[1]):
        spreads = []
        for source in sources:
            power = np.mean(np.abs(source[:, f]) ** 2, axis=0)
            spreads.append(sum(np.outer(s, s.conj()) for s in source[:, f].T) / power.sum())
        for n in range(mixture.shape[2]):
            power = [np.mean(np.abs(source[:, f, n]) ** 2) for source in sources]
            covariances = [p * spread for p, spread in zip(power, spreads, strict=True)]
            gain = covariances[0] @ np.linalg.inv(sum(covariances))
            out[:, f, n] = gain @ mixture[:, f, n]
    return out


@pytest.fixture
def song(rng):
    """Voice and rest in stereo: both a bit everywhere."""
    voice = np.stack([noise(rng), 0.5 * noise(rng)])
    rest = np.stack([noise(rng), noise(rng)])
    return voice + rest, voice


@pytest.mark.parametrize("xp", [np, jnp])
def test_one_window_is_the_definition(song, xp):
    mixture, voice = song
    found, _ = wiener_window(mixture, voice, Spread.none(BINS), xp)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(np.asarray(found), by_definition(mixture, voice), rtol=1e-3, atol=1e-4)


def test_sources_that_lie_apart_are_told_apart_whatever_the_mask_says(rng):
    voice = np.stack([noise(rng), np.zeros((BINS, WINDOW), np.complex64)])
    rest = voice[::-1, ::-1]
    mixture = voice + rest
    guess = 0.8 * voice + 0.2 * rest
    refined, _ = wiener_window(mixture, guess, Spread.none(BINS))

    def error(x):
        return np.sum(np.abs(x - voice) ** 2)

    assert error(refined) < 0.6 * error(guess)


def test_the_spread_is_remembered(song):
    mixture, voice = song
    _, once = wiener_window(mixture, voice, Spread.none(BINS))
    _, twice = wiener_window(mixture, voice, once)
    for first, second in zip(once, twice, strict=True):
        np.testing.assert_allclose(second, 1.9 * first, rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6, 1e6])
def test_it_is_finite_at_all_levels(song, level):
    mixture, voice = (np.complex64(level) * x for x in song)
    refined, spread = jax.jit(lambda *x: wiener_window(*x, jnp))(mixture, voice, Spread.none(BINS))
    assert np.isfinite(refined).all()
    assert all(np.isfinite(x).all() for x in spread)
    if level == 0:
        np.testing.assert_array_equal(refined, 0)


def test_a_voice_that_is_all_or_nothing_stays_so(song):
    mixture, _ = song
    everything, _ = wiener_window(mixture, mixture, Spread.none(BINS))
    nothing, _ = wiener_window(mixture, 0 * mixture, Spread.none(BINS))
    np.testing.assert_allclose(everything, mixture, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(nothing, 0, atol=1e-3)
