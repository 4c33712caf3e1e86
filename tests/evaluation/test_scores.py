import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.songs import Stems
from vocalsep_jax.evaluation.scores import baselines, score_song
from vocalsep_jax.measures.metrics import usdr

STFT = Stft(62, 21)


class Half:
    """In the place of a `Separator` of 8 kHz: takes a half of anything for voice."""

    stft, sample_rate = STFT, 8000

    def __init__(self):
        self.separated = []

    def separate(self, samples, sample_rate):
        self.separated.append((samples, sample_rate))
        return {"vocals": 0.5 * samples, "no_vocals": 0.5 * samples}


def song(rate, high=0.0):
    """Two tones of one level, far from each other; and one that a model of 8 kHz does not hear."""
    return Stems(tone(440, 1.0, rate) + high * tone(5000, 1.0, rate), tone(1500, 1.0, rate))


def test_baselines_are_the_mixture_silence_and_the_ideal_mask():
    stems = song(8000)
    scores = baselines(stems, STFT, sample_rate=8000, mask_rate=8000)
    assert scores["mixture"] == pytest.approx(0, abs=0.01)
    assert scores["silence"] == 0
    assert scores["ideal"] > 12


def test_the_mixture_that_came_with_the_stems_is_what_is_measured():
    stems = song(8000)
    mastered = Stems(stems.vocals, stems.accompaniment, given_mixture=stems.vocals.copy())
    assert baselines(mastered, STFT, sample_rate=8000, mask_rate=8000)["mixture"] > 50


def test_a_mask_of_a_lower_rate_leaves_what_lies_above_it_to_the_rest():
    """At the rate of the song, a tone of 5 kHz is lost to it."""
    at_rate = baselines(song(16_000, high=0.5), STFT, sample_rate=16_000, mask_rate=16_000)
    lower = baselines(song(16_000, high=0.5), STFT, sample_rate=16_000, mask_rate=8000)
    assert at_rate["ideal"] > 12
    # A fifth of the voice's energy is missing: 10 log10(5).
    assert lower["ideal"] == pytest.approx(7.0, abs=0.5)
    assert lower["mixture"] == at_rate["mixture"]


@pytest.mark.parametrize("rate", [8000, 12_000])
def test_a_song_s_scores_are_those_of_the_estimate_beside_the_baselines(rate):
    stems, separator = song(rate), Half()
    scores = score_song(stems, rate, {"estimate": separator})
    expected = baselines(stems, STFT, sample_rate=rate, mask_rate=8000)
    assert scores == expected | {"estimate": usdr(stems.vocals, 0.5 * stems.mixture)}
    ((given, at),) = separator.separated
    np.testing.assert_array_equal(given, stems.mixture)
    assert at == rate


def test_leakage_is_of_the_accompaniment_alone():
    stems, separator = song(8000), Half()
    scores = score_song(stems, 8000, {"estimate": separator}, leakage=True)
    assert scores["leakage"] == pytest.approx(20 * np.log10(0.5), abs=1e-4)
    np.testing.assert_array_equal(separator.separated[1][0], stems.accompaniment)


def test_several_separators_have_a_column_each():
    scores = score_song(song(8000), 8000, {"a": Half(), "b": Half()}, leakage=True)
    assert list(scores) == ["mixture", "silence", "ideal", "a", "b", "a leakage", "b leakage"]
    assert scores["a"] == scores["b"]


def test_what_is_silent_has_no_score():
    sounding = tone(440, 1.0)
    silent = np.zeros_like(sounding)
    scores = score_song(Stems(silent, sounding), 8000, {"estimate": Half()}, leakage=True)
    assert scores.pop("leakage") == pytest.approx(20 * np.log10(0.5), abs=1e-4)
    assert set(scores.values()) == {None}
    scores = score_song(Stems(sounding, silent), 8000, {"estimate": Half()}, leakage=True)
    assert scores.pop("leakage") is None
    assert None not in scores.values()
