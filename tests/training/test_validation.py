import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import tone
from tests.small_network import small_config
from vocalsep_jax.data.feed import Work
from vocalsep_jax.data.songs import Song, Stems
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.training.step import QUALITIES
from vocalsep_jax.training.validation import SONG_BATCH, ValidationSong, validate_patches

pytestmark = pytest.mark.usefixtures("_small_network")


def test_means_are_over_patches_not_over_batches():
    """A short last batch counts as much as it has patches."""

    def evaluate(variables, batch, scale):
        assert variables == "variables"
        sums = {name: scale * np.sum(batch) * (n + 1) for n, name in enumerate(QUALITIES)}
        return {name: jnp.float32(x) for name, x in {**sums, "patches": len(batch)}.items()}

    work = [Work(1, np.array([1.0, 2.0, 6.0]), (10,)), Work(1, np.array([7.0]), (10,))]
    means = validate_patches(evaluate, "variables", iter(work))
    assert means == pytest.approx({name: 40.0 * (n + 1) for n, name in enumerate(QUALITIES)})


@pytest.fixture(scope="module")
def stems():
    """Half a minute, in which the voice is loud from 12 to 20 seconds only."""
    vocals, accompaniment = tone(440, 30.0), tone(100, 30.0)
    vocals[: 12 * 8000] *= 0.1
    vocals[20 * 8000 :] *= 0.1
    return Stems(vocals, accompaniment)


@pytest.fixture(scope="module")
def song(stems, _small_network):
    rates = []

    def load(rate):
        rates.append(rate)
        return stems

    loaded = ValidationSong.load(Song("A", load, ""), small_config(valid__song_overlap=0.5))
    assert rates == [8000]
    return loaded


def test_the_song_is_separated_whole_in_batches_of_one_size(song, stems):
    shapes = set()

    def predict(magnitudes):
        shapes.add(magnitudes.shape)
        return np.full_like(magnitudes, 0.5)

    np.testing.assert_allclose(song.separate(predict), 0.5 * stems.mixture, atol=1e-5)
    assert shapes == {(SONG_BATCH, 32, 32)}


def test_a_stereo_network_sees_left_and_right_of_the_song_together(song, stems):
    shapes = set()

    def predict(magnitudes):
        shapes.add(magnitudes.shape)
        return np.full_like(magnitudes, 1) * np.float32([0.5, 0.25])

    stereo = dataclasses.replace(song, config=small_config(data__channels="stereo"))
    np.testing.assert_allclose(stereo.separate(predict), [0.5, 0.25] * stems.mixture, atol=1e-5)
    assert shapes == {(SONG_BATCH, 32, 32, 2)}


def test_scores_stand_beside_what_they_are_measured_against(song, stems):
    scores = song.score(0.9 * stems.vocals)
    assert scores.keys() == {"sdr", "sdr_mixture", "sdr_silence", "sdr_ideal"}
    assert scores["sdr"] == pytest.approx(20, abs=1e-3)
    assert scores["sdr_silence"] == 0
    assert scores["sdr_mixture"] == usdr(stems.vocals, stems.mixture)
    assert scores["sdr_ideal"] > scores["sdr_mixture"] + 6


def test_clips_are_of_the_stretch_in_which_the_voice_is_loudest(song, stems):
    estimate = np.arange(2 * 30 * 8000, dtype=np.float32).reshape(-1, 2)
    clips = song.clips(estimate)
    assert clips.keys() == {"mixture", "predicted", "desired"}
    first = int(clips["predicted"][0, 0]) // 2
    assert 10 * 8000 <= first <= 12 * 8000
    part = slice(first, first + 10 * 8000)
    np.testing.assert_array_equal(clips["predicted"], estimate[part])
    np.testing.assert_array_equal(clips["mixture"], stems.mixture[part])
    np.testing.assert_array_equal(clips["desired"], stems.vocals[part])


def test_clips_of_a_short_song_are_all_of_it():
    vocals = tone(440, 2.0)
    song = ValidationSong(Stems(vocals, vocals), small_config(), {})
    assert {len(x) for x in song.clips(vocals).values()} == {len(vocals)}
