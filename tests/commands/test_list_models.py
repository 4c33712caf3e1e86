"""`vocalsep models`."""

import json

import numpy as np
import pytest

from tests.shipped_model import write_model
from vocalsep_jax import list_models
from vocalsep_jax.runs import shipped

ARRAYS = {"params/down1/kernel": np.ones((4, 4, 1, 64), np.float32)}
MEDIAN = {"median": 3.14159, "low": 1.0, "high": 4.0, "songs": 5, "enough_songs": False}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two models: the default with a card, the other without."""
    folder = tmp_path / "shipped"
    write_model(folder / "vocals", ARRAYS)
    card = {
        "songs": {"train": [{"song": "A - B"}, {"song": "C - D"}]},
        "scores": {"medians": {"model": {"vocals_usdr": MEDIAN}}},
    }
    (folder / "vocals" / "card.json").write_text(json.dumps(card))
    (folder / "vocals" / "MODEL_CARD.md").write_text("# vocals\n\nA card.\n")
    write_model(folder / "another", ARRAYS, channels=1, licence="CC-BY-4.0")
    (folder / "default.txt").write_text("vocals\n")
    monkeypatch.setattr(shipped, "shipped_folder", lambda: folder)
    return folder


def test_the_table(models, capsys):
    assert list_models.main([]) == 0
    head, another, vocals = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "size", "parameters"]
    assert another.split()[0] == "another"
    assert another.endswith("CC-BY-4.0")
    assert "songs" not in another
    size = (models / "vocals" / "weights.npz").stat().st_size
    cells = ["vocals (default)", f"{size / 1e6:.1f} MB", "16,581", "8000 Hz", "stereo", "2 songs"]
    cells += ["3.14 dB of 5 songs", "CC0-1.0"]
    assert [x.strip() for x in vocals.split("  ") if x.strip()] == cells


def test_as_json(models, capsys):
    assert list_models.main(["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == ["another", "vocals"]
    facts = json.loads((models / "vocals" / "model.json").read_text())
    assert listed["vocals"] == {
        "default": True,
        "bytes": (models / "vocals" / "weights.npz").stat().st_size,
        "parameters": 16581,
        "sample_rate": 8000,
        "channels": 2,
        "licence": "CC0-1.0",
        "sha256": facts["weights"]["sha256"],
        "songs": [{"song": "A - B"}, {"song": "C - D"}],
        "scores": {"medians": {"model": {"vocals_usdr": MEDIAN}}},
    }
    assert not listed["another"]["default"]
    assert list_models.main(["another", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["another"]


def test_the_card_of_one(models, capsys):
    assert list_models.main(["vocals"]) == 0
    assert capsys.readouterr().out == "# vocals\n\nA card.\n"


def test_errors_are_one_line_and_exit_code_2(models, caplog, monkeypatch, tmp_path):
    def error(*arguments):
        caplog.clear()
        assert list_models.main([*arguments]) == 2
        (message,) = caplog.messages
        assert len(message.splitlines()) == 1
        return message

    assert error("third") == "error: no model 'third'; there are another, vocals"
    assert "MODEL_CARD.md: No such file" in error("another")
    (models / "another" / "model.json").write_text("{}")
    assert "another: not a model that `vocalsep export` wrote" in error()
    (models / "vocals" / "card.json").write_text("[")
    assert "card.json: damaged" in error("vocals", "--json")
    monkeypatch.setattr(shipped, "shipped_folder", lambda: tmp_path / "none")
    assert error().startswith("error: no model comes with this package")
