"""`python -m vocalsep_jax.evaluate`."""

import json

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax import evaluate
from vocalsep_jax.audio import files
from vocalsep_jax.data.songs import find_library
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.separation.separator import Separator


def test_scores_of_the_test_songs(run, song_root, tmp_path, capsys):
    scores_file = tmp_path / "scores.json"
    arguments = ["--checkpoint", str(run), "--data", str(song_root), "--json", str(scores_file)]
    assert evaluate.main(arguments) == 0
    (scores,) = json.loads(scores_file.read_text()).values()
    assert scores["silence"] == 0
    assert scores["mixture"] == pytest.approx(0, abs=0.01)  # two tones of one level
    assert scores["ideal"] > 6
    vocals, accompaniment = tone(590, 5), tone(130, 5)
    estimate = Separator(run).separate(vocals + accompaniment, 8000)["vocals"]
    assert scores["estimate"] == pytest.approx(usdr(vocals, estimate), abs=0.01)
    assert "D - Four" in capsys.readouterr().out


def test_scores_at_another_rate_than_the_model_s(run, song_root, tmp_path):
    arguments = ["--checkpoint", str(run), "--data", str(song_root), "--json", str(tmp_path / "s.json")]
    assert evaluate.main([*arguments, "--sample-rate", "12000"]) == 0
    (scores,) = json.loads((tmp_path / "s.json").read_text()).values()
    assert scores["ideal"] > 6
    song = find_library(song_root).splits["test"][0].load(12_000)
    estimate = Separator(run).separate(song.mixture, 12_000)["vocals"]
    assert scores["estimate"] == pytest.approx(usdr(song.vocals, estimate), abs=1e-6)
    assert evaluate.main([*arguments, "--sample-rate", "0"]) == 2


def test_errors_are_one_line(run, song_root, tmp_path, caplog):
    arguments = ["--checkpoint", str(run), "--data"]
    assert evaluate.main([*arguments, str(tmp_path / "none")]) == 2
    assert evaluate.main([*arguments, str(song_root / "train")]) == 2
    assert "no such folder" in caplog.text
    assert "no songs in the test split" in caplog.text


def test_leakage_is_of_the_accompaniment_alone(run, song_root, tmp_path, capsys):
    arguments = ["--checkpoint", str(run), "--data", str(song_root), "--json", str(tmp_path / "s.json")]
    assert evaluate.main([*arguments, "--leakage"]) == 0
    (scores,) = json.loads((tmp_path / "s.json").read_text()).values()
    accompaniment = files.read(song_root / "test" / "D - Four" / "accompaniment.wav")[0]
    taken = Separator(run).separate(accompaniment, 8000)["vocals"]
    expected = 10 * np.log10(np.sum(taken**2) / np.sum(accompaniment**2))
    assert scores["leakage"] == pytest.approx(expected, abs=1e-4)
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == "leakage"
