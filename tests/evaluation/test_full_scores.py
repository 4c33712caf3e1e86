import json

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.data.songs import Stems
from vocalsep_jax.evaluation.full_scores import (
    Scores,
    SongScorer,
    columns,
    extreme_windows,
    frame_columns,
    median,
)
from vocalsep_jax.measures.bss_eval import BssEval
from vocalsep_jax.measures.metrics import usdr

RATE = 2000


def noise(rng, seconds, level=0.1):
    return (level * rng.standard_normal((seconds * RATE, 2))).astype(np.float32)


def test_values_are_those_of_the_measures_and_medians_of_frames(rng):
    vocals, accompaniment = noise(rng, 4), noise(rng, 4)
    vocals[:RATE] = 0  # a second without voice
    estimate = vocals + 0.1 * accompaniment
    scorer = SongScorer(Stems(vocals, accompaniment), RATE)
    scores = scorer.score(estimate, vocals + accompaniment - estimate, 0.1 * accompaniment)
    assert list(scores.values) == list(columns())
    assert list(scores.frames) == list(frame_columns())
    assert scores.values["vocals_usdr"] == pytest.approx(usdr(vocals, estimate), abs=1e-4)
    assert scores.values["leakage"] == pytest.approx(-20, abs=1e-3)
    ratios = BssEval(np.stack([vocals, accompaniment]), window=RATE).score(
        np.stack([estimate, vocals + accompaniment - estimate])
    )
    for name, ratio in ratios._asdict().items():
        for number, target in enumerate(("vocals", "accompaniment")):
            frames = scores.frames[f"{target}_{name}"]
            assert frames[0] is None
            expected = np.minimum(ratio[number, 1:], 100)  # there is no artefact: rounding alone
            np.testing.assert_allclose(frames[1:], expected, atol=1e-4)
            assert scores.values[f"{target}_{name}"] == pytest.approx(np.median(expected), abs=1e-4)
    energy = np.sum(estimate[:RATE].astype(float) ** 2, axis=0).mean()
    assert scores.values["vocals_pes"] == pytest.approx(10 * np.log10(energy), abs=1e-3)
    assert scores.values["accompaniment_pes"] is None
    assert scores.frames["vocals_usdr"][0] is None
    assert scores.voiced == [False, True, True, True]


@pytest.mark.parametrize("silent", ["vocals", "accompaniment", "both"])
def test_a_silent_reference_gives_none_and_never_nan(rng, silent):
    sounding = noise(rng, 3)
    nothing = np.zeros_like(sounding)
    vocals = nothing if silent in ("vocals", "both") else sounding
    accompaniment = nothing if silent in ("accompaniment", "both") else sounding
    scores = SongScorer(Stems(vocals, accompaniment), RATE).score(0.5 * sounding, 0.5 * sounding, nothing)
    json.dumps([scores.values, scores.frames, scores.signal, scores.error], allow_nan=False)
    for target, is_silent in (("vocals", silent != "accompaniment"), ("accompaniment", silent != "vocals")):
        assert (scores.values[f"{target}_usdr"] is None) == is_silent
        assert (scores.values[f"{target}_pes"] is None) != is_silent
        assert scores.values[f"{target}_sdr"] is None
    assert (scores.values["leakage"] is None) == (silent != "vocals")


def test_estimates_that_are_silent_or_perfect_have_numbers_that_json_knows(rng):
    vocals, accompaniment = noise(rng, 3), noise(rng, 3)
    scorer = SongScorer(Stems(vocals, accompaniment), RATE)
    perfect = scorer.score(vocals, accompaniment)
    assert perfect.values["vocals_sdr"] == 100
    silent = scorer.score(np.zeros_like(vocals), vocals + accompaniment)
    assert silent.values["vocals_usdr"] == 0
    assert silent.values["vocals_sdr"] is None
    for scores in (perfect, silent):
        json.dumps([scores.values, scores.frames], allow_nan=False)


def test_a_song_shorter_than_a_frame_is_one():
    vocals = tone(440, 0.5, RATE)
    scores = SongScorer(Stems(vocals, tone(90, 0.5, RATE)), RATE).score(0.5 * vocals, 0.9 * vocals)
    assert [len(x) for x in scores.frames.values()] == [1] * len(frame_columns())


def test_median_of_those_there_are():
    assert median([None, 1.0, 5.0, None, 2.0]) == 2.0
    assert median([None]) is None


def scores_of(errors, voiced=None):
    count = len(errors)
    return Scores({}, {}, [1.0] * count, list(errors), voiced or [True] * count)


def test_the_best_and_the_worst_window():
    found = extreme_windows(scores_of([1, 1, 0.1, 0.1, 1, 1, 1, 5, 5, 1]), length=2)
    assert [(w.kind, w.first, w.last) for w in found] == [("best", 2, 4), ("worst", 7, 9)]
    assert [w.usdr for w in found] == [pytest.approx(10), pytest.approx(-10 * np.log10(5))]


def test_windows_do_not_overlap_and_lie_where_the_voice_sounds():
    silent_end = scores_of([1, 1, 1, 9, 9, 9], [True, True, False, False, False, False])
    assert [(w.first, w.last) for w in extreme_windows(silent_end, length=2)] == [(0, 2)]
    (whole,) = extreme_windows(scores_of([1, 2, 3]), length=10)
    assert (whole.first, whole.last) == (0, 3)
    assert extreme_windows(scores_of([1, 2, 3], [False] * 3), length=2) == []


def test_the_worst_window_is_not_the_rest_of_an_echo():
    errors = [1.0, 1.0, 2.0, 2.0, 9.0, 9.0]
    scores = Scores({}, {}, [1.0, 1.0, 0.5, 0.5, 5e-5, 5e-5], errors, [True] * 6)
    assert [(w.kind, w.first) for w in extreme_windows(scores, length=2)] == [("best", 0), ("worst", 3)]
