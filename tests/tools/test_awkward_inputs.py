import json

import numpy as np
import pytest

from tests.conftest import tone, write_song
from tools import awkward_inputs as tool


class Half:
    """In the place of a `Separator`: half of the input is the voice."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def separate(self, samples, sample_rate):
        offset = self.checkpoint == "noisy"
        return {"vocals": 0.5 * samples + np.float32(offset)}


@pytest.fixture
def measured(song_root, tmp_path, monkeypatch):
    """What is measured of a model, by input."""
    monkeypatch.setattr(tool, "Separator", Half)
    monkeypatch.setattr(tool, "_SECONDS", 1)
    music = write_song(tmp_path / "music", {"A - B": tone(300, 2)})

    def call(model="half", **changes):
        options = {
            "songs": song_root,
            "instrumentals": music,
            "json": tmp_path / "new" / "out.json",
        } | changes
        return tool.main([model, *(f"--{name}={value}" for name, value in options.items())])

    return call, tmp_path / "new" / "out.json"


def test_the_loudest_part():
    x = np.zeros((100, 2), np.float32)
    x[40:50] = 1
    assert tool.loudest(x, 10) == slice(40, 50)
    assert tool.loudest(x, 200) == slice(0, 100)


def test_what_is_measured(measured, capsys):
    call, path = measured
    assert call() == 0
    found = json.loads(path.read_text())
    for name in ("white noise", "clicks, two a second", "a drum solo (generated)", "A - B.wav"):
        assert found[name]["what"] == "taken for voice, relative to the input"
        assert found[name]["decibels"] == pytest.approx(-6.02, abs=0.01)  # half of it
    assert found["speech (generated syllables)"]["decibels"] == pytest.approx(6.02, abs=0.01)
    # Of the voice alone half is missing; of a mixture with a tone as loud, half of either is the error.
    assert found["D - Four, the voice alone"]["decibels"] == pytest.approx(6.02, abs=0.01)
    for change in ("as it is", "mono", "20 dB softer", "left and right exchanged", "at 8 kHz"):
        assert found[f"D - Four, {change}"]["what"] == "vocals uSDR"
        assert found[f"D - Four, {change}"]["decibels"] == pytest.approx(3.01, abs=0.05)
    assert found["D - Four, 12 dB louder, clipped"]["decibels"] < 3
    assert len(capsys.readouterr().out.splitlines()) == len(found) == 13


def test_errors_are_one_line(measured, tmp_path, caplog):
    call, path = measured
    for model, changes, message in (
        ("noisy", {}, "noisy: makes a voice of silence"),
        ("half", {"instrumentals": tmp_path / "none"}, "no such folder"),
        ("half", {"songs": tmp_path / "none"}, "no such folder"),
    ):
        caplog.clear()
        assert call(model, **changes) == 2
        (line,) = caplog.messages
        assert message in line
    assert not path.exists()
