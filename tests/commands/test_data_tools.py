"""The command `vocalsep data`."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, write_song
from tests.data.check.conftest import SONG_RATE, stems
from vocalsep_jax import data_tools


@pytest.fixture
def root(tmp_path):
    """Two songs, with nothing wrong."""
    for number, split in enumerate(("train", "valid")):
        write_song(tmp_path / "songs" / split / f"Song {number}", stems(number, 6.0), SONG_RATE)
    return tmp_path / "songs"


def check(*arguments):
    return data_tools.main(["check", *map(str, arguments)])


def test_songs_that_are_fit(root, tmp_path, capsys):
    assert check(root, "--json", tmp_path / "new" / "report.json", "-j", 2) == 0
    out, err = capsys.readouterr()
    assert out.endswith("fit to train on: 2 songs, 12 s, 0 errors, 0 warnings\n")
    assert err == ""
    assert json.loads((tmp_path / "new" / "report.json").read_text())["fit"] is True
    assert [x.name for x in (tmp_path / "new").iterdir()] == ["report.json"]


def test_songs_that_are_not(root, capsys):
    write_song(root / "test" / "Leak", stems(0, 6.0), SONG_RATE)
    assert check(root) == 1
    assert "test/Leak: 6 s of its" in capsys.readouterr().out


def test_music_without_a_voice(root, tmp_path):
    write_song(tmp_path / "more" / "a", {"accompaniment": stems(5, 6.0)["accompaniment"]}, SONG_RATE)
    assert check(root, "--instrumentals", tmp_path / "more", "--json", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [x["name"] for x in report["songs"]] == ["Song 0", "a", "Song 1"]


@pytest.mark.parametrize("name", ["a.png", "."])
def test_a_picture(root, tmp_path, name):
    pytest.importorskip("matplotlib", reason="needs the train extra")
    assert check(root, "--picture", tmp_path / name) == 0
    written = tmp_path / ("songs.png" if name == "." else name)
    assert written.read_bytes().startswith(b"\x89PNG")


def test_odd_songs_do_not_end_the_check(root, tmp_path, capsys):
    train = root / "train"
    write_song(train / "Slow", {"vocals": stems(2, 1.0)["vocals"], "accompaniment": [0.5] * 9}, 2)
    loud = write_song(train / "Loud", stems(3, 6.0), SONG_RATE)
    soundfile.write(loud / "vocals.wav", 1e25 * stems(3, 6.0)["vocals"], SONG_RATE, subtype="FLOAT")
    (train / os.fsdecode(b"caf\xe9")).symlink_to("/gone")
    assert check(root, "--json", tmp_path / "report.json") == 1
    out = capsys.readouterr().out
    assert "Slow: accompaniment.wav: has a sample rate of 2 Hz" in out
    assert "Loud: vocals.wav: holds samples beyond" in out
    assert r"caf\udce9: is a link to /gone, which is not there" in out
    kinds = [x["kind"] for x in json.loads((tmp_path / "report.json").read_text())["problems"]]
    assert set(kinds) == {"unreadable", "skipped"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: no such folder; give the folder that holds the songs"),
        (["SONGS", "--instrumentals", "nowhere"], "nowhere: no such folder"),
        (["SONGS", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["SONGS", "--picture", "a.gif"], "--picture 'a.gif': must be a .png file"),
        (["SONGS", "--json", "."], "--json '.': is a folder"),
        (["SONGS", "--json", "a/vocals.wav"], "would be an audio file"),
    ],
)
def test_wrong_usage_is_one_line(root, monkeypatch, caplog, arguments, expected):
    monkeypatch.chdir(root.parent)
    assert check(*[root if x == "SONGS" else x for x in arguments]) == 2
    (record,) = caplog.records
    assert expected in record.getMessage()
    assert record.getMessage().startswith("error: ")


def test_a_picture_without_matplotlib_names_the_extra(root, tmp_path, monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    assert check(root, "--picture", tmp_path / "a.png") == 2
    assert caplog.messages == ["error: --picture needs matplotlib: pip install 'vocalsep_jax[train]'"]
    assert check(root) == 0


def test_an_output_that_cannot_be_written(root, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert check(root, "--json", tmp_path / "file" / "a.json") == 2
    path = tmp_path / "file" / "a.json"
    (message,) = caplog.messages
    assert message.startswith(f"error: {path}: cannot be written (")


def test_an_interruption(root, monkeypatch, caplog):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_tools, "examine", interrupt)
    assert check(root) == 130
    assert caplog.messages == ["interrupted"]


def test_progress_on_a_terminal(root, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter(np.arange(0, 1e6, 2.0))  # at each look at it
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert data_tools.main(["check", str(root)]) == 0
    shown = [line.strip() for line in screen.getvalue().split("\r")]
    assert any(re.fullmatch(r"\[\d/\d\] +\d+ %  [\d.]+ x real time  .* left", line) for line in shown)
    assert shown[-2:] == ["", ""]


def test_as_a_module_it_does_not_import_jax(root):
    code = (
        "import sys; from vocalsep_jax import data_tools\n"
        "data_tools.main(sys.argv[1:]); print('jax' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "check", str(root)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False", result.stderr
    result = subprocess.run(
        [sys.executable, "-m", "vocalsep_jax.data_tools"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.startswith("usage: vocalsep data")
