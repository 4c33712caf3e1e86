"""Reports of songs, methods and scores that are made up: nothing is separated."""

import base64
import csv
import html
import io
import json
import re

import numpy as np
import pytest

from vocalsep_jax.data.songs import Song
from vocalsep_jax.evaluation import figures, report
from vocalsep_jax.evaluation.full_scores import Scores, columns, extreme_windows, frame_columns
from vocalsep_jax.evaluation.methods import Method
from vocalsep_jax.evaluation.page import Pictures, page
from vocalsep_jax.evaluation.store import Store
from vocalsep_jax.evaluation.tables import Evaluation, frames_csv, scores_csv, scores_json, text_table

pytest.importorskip("matplotlib", reason="needs the eval extra")

RATE = 2000
ODD = "_Ke$ha - 100% A$AP\n$\\frac{ caf\udce9"
"""Two formulas to matplotlib, one of them wrong; an end of line; a byte that is no text."""


def method(name, **details):
    return Method(name, "made up", lambda song, rate: song.mixture, **details)


def scores(usdr, seconds=12):
    """The best ten seconds are the last ones; there is no room for the worst ones."""
    error = [2.0, 2.0] + [1.0] * (seconds - 2)
    frames = {name: [1.0] * seconds for name in frame_columns()}
    values = dict.fromkeys(columns(), 1.0) | {"vocals_usdr": usdr}
    return Scores(values, frames, [1.0] * seconds, error, [True] * seconds)


def evaluation(usdr, checkpoints=("model",)):
    """By song its uSDR, or by song that of each checkpoint."""
    methods = [*(method(name, is_checkpoint=True) for name in checkpoints), method("mixture")]
    listed = {s: x if isinstance(x, tuple) else (x,) * len(checkpoints) for s, x in usdr.items()}
    found = {
        song: {m.name: scores(v) for m, v in zip(methods, (*values, 0.0), strict=True)}
        for song, values in listed.items()
    }
    return Evaluation(methods, found, RATE, {"command": ODD, "date": "today"}, [ODD])


def song(name):
    return Song(name, lambda rate: None, f"of {name!a}")


def store_of(folder, made):
    """A store with the clips of all songs."""
    store, rng = Store(folder, RATE), np.random.default_rng(0)
    for name, by_method in made.scores.items():
        for window in extreme_windows(by_method[made.methods[0].name]):
            for what in ("mixture", "vocals", *made.checkpoints):
                store.write_clip(song(name), what, window, rng.uniform(-0.1, 0.1, (12 * RATE, 2)))
    return store


@pytest.fixture
def clip_size(monkeypatch):
    """Clips have 100 characters: nothing is drawn or encoded."""
    monkeypatch.setattr(figures, "spectrograms", lambda *_: "data:" + 15 * "x")
    monkeypatch.setattr(report, "_sound", lambda *_: "data:" + 15 * "y")
    return 100


def text_of(drawing, monkeypatch):
    """The letters of a figure, as they are drawn."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        address = drawing()
    return html.unescape(base64.b64decode(address.split(",")[1]).decode())


def test_names_are_drawn_as_they_are(monkeypatch):
    values = {"_run": [1.0, 2.0], "A$AP $x^2$": [0.5, None], "mixture": [0.0, 0.0]}
    text = text_of(lambda: figures.song_bars(values, [ODD, "a\\$b"], 2), monkeypatch)
    assert "_Ke$ha - 100% A$AP\\n$\\frac{" in text
    assert "a\\$b" in text
    assert re.search(r">\u200b_run<.*>A\$AP \$x\^2\$<.*>mixture<", text, re.DOTALL)  # the legend
    frames = {"SDR": {ODD: [1.0, 2.0], "_run": []}}
    assert "_run" in text_of(lambda: figures.frame_distributions(frames), monkeypatch)


def test_spectrograms_have_names_that_are_no_formulas():
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (RATE, 2))
    names = {ODD: noise, "$ a $b_{": noise}
    assert figures.spectrograms(noise, noise, names, RATE).startswith("data:image/webp")


def test_names_that_are_no_text_are_shown_with_escapes():
    made = evaluation({ODD: None, "b": 1.0})
    shown = "_Ke$ha - 100% A$AP\\n$\\frac{ caf\\udce9"
    for table in (scores_csv, frames_csv):
        rows = list(csv.reader(io.StringIO(table(made).encode().decode())))
        assert rows[1][:2] == [shown, "model"]
    assert text_table(made).encode().decode().endswith(f"which are silent: {shown}")
    whole = page(made, Pictures("data:", {}), [], 0)
    assert whole.encode().decode().count(shown) >= 4  # scores, silent, failed, command
    assert list(json.loads(json.dumps(scores_json(made)))["songs"]) == [ODD, "b"]


def test_a_report_of_names_that_are_no_text(tmp_path, clip_size):
    made = evaluation({ODD: 1.0})
    folder = tmp_path / "report"
    out = report.write_report(folder, made, [song(ODD)], store_of(folder / "results", made))
    assert out.read_text(encoding="utf-8").count("<audio") == 4
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert list(content["songs"]) == [ODD]
    assert content["facts"]["command"] == ODD


def test_clips_that_there_is_no_room_for(tmp_path, clip_size, monkeypatch):
    """The worst song comes first, then the best; they are shown in the order of the songs."""
    made = evaluation({"a": 2.0, "b": 3.0, "c": 1.0, "d": None})
    songs, store = [song(name) for name in made.scores], store_of(tmp_path, made)
    for room, shown in ((0, ""), (1, "c"), (2, "bc"), (3, "abc")):
        monkeypatch.setattr(report, "ROOM", (room + 1) * clip_size - 1)
        clips, left_out, lost = report._clips(made, songs, store)
        assert "".join(c.song for c in clips) == shown
        assert (left_out, lost) == (3 - room, 0)
        assert (
            f"would grow too large: {left_out}." in page(made, Pictures("", {}), clips, left_out)
            or not left_out
        )


def test_a_clip_that_is_lost_takes_no_other_with_it(tmp_path, clip_size, monkeypatch, caplog):
    made = evaluation({"a": 2.0, "b": 3.0, "c\udce9": 1.0, "d": 4.0})
    songs, store = [song(name) for name in made.scores], store_of(tmp_path / "results", made)
    (window,) = extreme_windows(made.scores["d"]["model"])
    store._clip(songs[2], "vocals", window).unlink()
    damaged = store._clip(songs[3], made.methods[0], window)
    damaged.write_bytes(damaged.read_bytes()[:2000])
    assert not store.has_clip(songs[3], made.methods[0], window)  # so that it is made anew
    assert store.has_clip(songs[1], made.methods[0], window)
    clips, left_out, lost = report._clips(made, songs, store)
    assert ("".join(c.song for c in clips), left_out, lost) == ("ab", 0, 2)
    assert "c\\udce9: the clip of its best part is not there or damaged" in caplog.messages
    monkeypatch.setattr(report, "ROOM", 0)
    assert report._clips(made, songs, store) == ([], 2, 2)
    text = page(made, Pictures("", {}), [], 2, 2)
    assert "would grow too large: 2." in text
    assert "or damaged: 2." in text


def table(text, head):
    """The caption of a table that begins so, and its cells under the first column, by row."""
    found = re.search(rf"<caption><span>({head}.*?)</span></caption>(.*?)</table>", text, re.DOTALL)
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', found[2])
    return found[1], dict(rows)


@pytest.mark.parametrize(("songs", "voices"), [(8, 8), (8, 4), (8, 1), (3, 3)])
def test_what_a_table_calls_an_interval_of_95_percent_is_one(songs, voices):
    """By the songs that have a value, and not by all: here, some songs have no voice."""
    values = {f"s{n}": (float(n), n + 0.5) if n < voices else (None, None) for n in range(songs)}
    text = page(evaluation(values, ("model", "other")), Pictures("", {}), [], 0)
    short, differences = text.split("<h2>Differences")
    for part, row in ((short, "model"), (differences.split("<h2>")[0], "other")):
        caption, cells = table(part, "Vocals")
        assert f"of {voices}</small>" in cells[row] if 1 < voices < 6 else " of " not in cells[row]
        assert ("<small>1 song</small>" in cells[row]) == (voices == 1)
        assert ("95 %" in caption) == (songs == 8)  # other columns have all songs
        assert ("the least … the greatest value of n songs" in caption) == (1 < voices < 6)
        caption, _ = table(part, "Accompaniment")
        assert ("95 %" in caption, "least" in caption) == (songs == 8, songs < 6)
    notes = differences.split("<div")[0]
    assert ("drawn anew in pairs" in notes) == (songs == 8)
    assert ("no difference is beyond chance" in notes) == (voices < 6)
