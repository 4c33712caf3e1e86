"""REPET-SIM and harmonic-percussive separation, on sounds made for them."""

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.evaluation import hpss, repet_sim
from vocalsep_jax.evaluation.hpss import harmonic_percussive, hpss_voice
from vocalsep_jax.measures.metrics import usdr

RATE = 8000


def glide(seconds, low=500, high=3000):
    """A tone whose pitch never comes back, float32 `[S, 2]`."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (low * t + (high - low) * t**2 / (2 * seconds))
    return np.repeat(0.2 * np.sin(phase)[:, None], 2, axis=1).astype(np.float32)


def loop(rng, seconds, period=1.5):
    """Noise that repeats, float32 `[S, 2]`."""
    once = 0.05 * rng.standard_normal((round(period * RATE), 2))
    return np.tile(once, (int(np.ceil(seconds / period)), 1))[: round(seconds * RATE)].astype(np.float32)


def test_repet_sim_finds_what_does_not_repeat(rng):
    background, foreground = loop(rng, 12), glide(12)
    mixture = background + foreground
    voice = repet_sim.repet_sim(mixture, RATE)
    assert (voice.shape, voice.dtype) == (mixture.shape, np.float32)
    assert usdr(foreground, voice) > usdr(foreground, mixture) + 6
    assert usdr(background, mixture - voice) > usdr(background, mixture) + 6


def test_repet_sim_takes_nothing_of_a_loop(rng):
    background = loop(rng, 12)
    taken = repet_sim.repet_sim(background, RATE)
    assert np.sum(taken**2) < 0.03 * np.sum(background**2)


def test_similar_frames_are_far_apart_and_are_the_same_in_blocks(rng, monkeypatch):
    magnitude = np.tile(rng.random((20, 9)), (5, 1)).astype(np.float32)
    found = repet_sim._similar_frames(magnitude, 10)
    for n in (0, 47, 99):
        assert set(range(n % 20, 100, 20)) <= set(found[n])
        assert len(found[n]) <= 6  # one more may be the greatest near an end
    monkeypatch.setattr(repet_sim, "_ROWS", 7)
    for one, other in zip(found, repet_sim._similar_frames(magnitude, 10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tones_and_clicks_come_apart():
    tones = tone(440, 2) + tone(1250, 2)
    clicks = np.zeros_like(tones)
    clicks[1000::2000] = 1.0
    harmonic, percussive = harmonic_percussive(tones + clicks, Stft(512, 128))
    np.testing.assert_allclose(harmonic + percussive, tones + clicks, atol=1e-5)
    assert usdr(tones, harmonic) > 15
    assert usdr(clicks, percussive) > 6


def test_hpss_takes_a_voice_that_moves_from_tones_that_stay_and_from_clicks():
    t = np.arange(6 * RATE) / RATE
    vibrato = np.sin(2 * np.pi * 700 * t + 6 * np.sin(2 * np.pi * 5.5 * t))  # +-33 Hz
    voice = np.repeat(0.3 * vibrato[:, None], 2, axis=1).astype(np.float32)
    band = tone(300, 6) + tone(1800, 6)
    band[2000::4000] += 0.8
    found = hpss_voice(voice + band, RATE)
    assert usdr(voice, found) > usdr(voice, voice + band) + 5


@pytest.mark.parametrize("method", [repet_sim.repet_sim, hpss_voice])
def test_short_and_silent_songs_are_no_trouble(method):
    for samples in (1, 50, 4000):
        silence = np.zeros((samples, 2), np.float32)
        np.testing.assert_array_equal(method(silence, RATE), silence)


def test_blocks_do_not_show(rng, monkeypatch):
    noise = rng.standard_normal((3 * RATE, 2)).astype(np.float32)
    whole = hpss_voice(noise, RATE)
    monkeypatch.setattr(hpss, "_BLOCK_SECONDS", 1.3)
    np.testing.assert_allclose(hpss_voice(noise, RATE), whole, atol=1e-5)
