"""`vocalsep evaluate --metrics all` and `--report`, from the command to the page."""

import csv
import html
import html.parser
import json
import logging
import os
import re
import shutil

import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_song
from tools.fuzz_separate.tiny_run import make_run
from vocalsep_jax import evaluate
from vocalsep_jax.evaluation import full_scores, report
from vocalsep_jax.evaluation.methods import NAMES

pytest.importorskip("matplotlib", reason="needs the eval extra")


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two songs with a voice and one without, 12 s each at 8 kHz."""
    root = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for name, level in (("A & B - <One>", 0.2), ("C - Two", 0.1), ("D - No Voice", 0.0)):
        voice = level * np.sin(np.cumsum(rng.uniform(0.2, 0.6, 96_000)))[:, None].repeat(2, axis=1)
        voice[:16_000] = 0
        band = tone(200, 12) + 0.02 * rng.standard_normal((96_000, 2)).astype(np.float32)
        write_song(root / "test" / name, {"vocals": voice, "accompaniment": band})
    return root


@pytest.fixture(scope="module")
def other_run(tmp_path_factory, run):
    """A second checkpoint, with other numbers in it than the first."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "other")
    content = json.loads((folder / "config.json").read_text())
    content["config"]["audio"]["hop"] = 20
    (folder / "config.json").write_text(json.dumps(content))
    return folder


class _Page(html.parser.HTMLParser):
    """Checks that tags are closed in order, and collects what is loaded and what is written."""

    VOID = frozenset(("meta", "link", "img", "br"))

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.tags, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value for name, value in attrs if name in ("src", "href", "srcset", "poster", "data")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def call(*options):
    return evaluate.main([str(option) for option in options])


@pytest.mark.slow
class TestReport:
    """One checkpoint, then two, then again."""

    @pytest.fixture(scope="class")
    def made(self, run, songs, tmp_path_factory):
        folder = tmp_path_factory.mktemp("report") / "new" / "report"
        scores = folder.parent / "copy.json"
        code = call("--checkpoint", run, "--data", songs, "--report", folder, "-j", 2, "--json", scores)
        assert code == 0
        return folder, json.loads(scores.read_text())

    def test_the_page_is_well_formed_and_loads_nothing(self, made):
        text = (made[0] / "index.html").read_text(encoding="utf-8")
        found = _Page(text)
        assert found.open == []
        assert found.loads
        assert all(address.startswith("data:") for address in found.loads)
        assert not re.search(r"https?://|@import|url\(", text)
        assert found.tags.count("audio") == 2 * 4  # a window of each song with a voice
        assert found.tags.count("h1") == 1
        words = " ".join(found.words)
        assert "A & B - <One>" in words
        assert "vocals of these are silent" in words
        assert "nan" not in words.lower()
        assert "vocalsep evaluate --checkpoint" in words

    def test_files_have_all_scores_and_no_nan(self, made, songs):
        folder, copied = made
        content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        assert content == copied
        assert list(content["songs"]) == ["A & B - <One>", "C - Two", "D - No Voice"]
        methods = ["tiny", *NAMES]
        for by_method in content["songs"].values():
            assert list(by_method) == methods
            assert all(list(v) == list(full_scores.columns()) for v in by_method.values())
        silent = content["songs"]["D - No Voice"]["tiny"]
        assert silent["vocals_usdr"] is None
        assert silent["vocals_pes"] is not None
        assert content["medians"]["tiny"]["vocals_usdr"]["songs"] == 2
        assert content["medians"]["tiny"]["vocals_usdr"]["enough_songs"] is False
        assert content["medians"]["silence"]["vocals_sdr"] is None
        with (folder / "scores.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3 * len(methods)
        assert float(rows[0]["vocals_usdr"]) == content["songs"]["A & B - <One>"]["tiny"]["vocals_usdr"]
        with (folder / "frames.csv").open(newline="") as file:
            frames = list(csv.DictReader(file))
        assert len(frames) == 3 * len(methods) * 12
        assert frames[0]["vocals_sdr"] == ""  # no voice in the first second
        assert "nan" not in (folder / "frames.csv").read_text().lower()

    def test_called_again_it_computes_nothing(self, made, run, songs, monkeypatch, caplog):
        def never(*_, **__):
            raise AssertionError("scored again")

        monkeypatch.setattr(full_scores.SongScorer, "score", never)
        before = {p: p.stat().st_mtime_ns for p in (made[0] / "results").iterdir()}
        with caplog.at_level(logging.INFO):
            assert call("--checkpoint", run, "--data", songs, "--report", made[0]) == 0
        assert caplog.text.count("there already") == 3
        assert {p: p.stat().st_mtime_ns for p in (made[0] / "results").iterdir()} == before

    def test_what_is_missing_or_has_changed_is_computed_anew(self, made, run, songs, tmp_path, monkeypatch):
        folder = shutil.copytree(made[0], tmp_path / "report")
        score, calls = full_scores.SongScorer.score, []
        monkeypatch.setattr(
            full_scores.SongScorer, "score", lambda *a, **k: calls.append(1) or score(*a, **k)
        )
        kept = sorted((folder / "results").glob("*.json"))
        kept[0].unlink()
        kept[1].write_text("{damaged")
        missing, damaged, *_ = clips = sorted((folder / "results").glob("*.flac"))
        whole = [clip.read_bytes() for clip in clips]
        missing.unlink()
        damaged.write_bytes(whole[1][:1000])
        assert call("--checkpoint", run, "--data", songs, "--report", folder) == 0
        assert len(calls) == 2
        assert [len(clip.read_bytes()) for clip in clips] == [len(x) for x in whole]
        changed = shutil.copytree(songs, tmp_path / "songs")
        for stem in (changed / "test" / "C - Two").iterdir():
            os.utime(stem, (1, 1))
        assert call("--checkpoint", run, "--data", changed, "--report", folder) == 0
        assert len(calls) == 2 + 1 + len(NAMES)

    def test_two_checkpoints_are_beside_each_other(self, made, run, other_run, songs, tmp_path, capsys):
        folder = shutil.copytree(made[0], tmp_path / "report")
        options = ("--data", songs, "--report", folder, "-j", 2)
        assert call("--checkpoint", run, "--checkpoint", other_run, *options) == 0
        printed = capsys.readouterr().out
        assert re.search(r"^tiny ", printed, re.MULTILINE)
        assert re.search(r"^other ", printed, re.MULTILINE)
        content = json.loads((folder / "scores.json").read_text())
        difference = content["differences_from_the_first_checkpoint"]["other"]["vocals_usdr"]
        songs_with_voice = [s for s in content["songs"].values() if s["tiny"]["vocals_usdr"] is not None]
        expected = np.median(
            [s["other"]["vocals_usdr"] - s["tiny"]["vocals_usdr"] for s in songs_with_voice]
        )
        assert difference["median"] == pytest.approx(expected)
        found = _Page((folder / "index.html").read_text())
        assert "Differences from tiny" in found.words
        assert "no difference is beyond chance" in " ".join(found.words)
        assert found.tags.count("audio") == 2 * 6

    def test_a_page_has_room_for_so_many_clips(self, made, run, songs, tmp_path, monkeypatch):
        """Here for one: that of the worst song. tests/evaluation/test_report.py has more of them."""
        folder = shutil.copytree(made[0], tmp_path / "report")
        values = json.loads((folder / "scores.json").read_text())["songs"]
        worst, other = sorted(
            ("A & B - <One>", "C - Two"), key=lambda name: values[name]["tiny"]["vocals_usdr"]
        )
        sizes, clip = [], report._clip

        def sized(*arguments):
            sizes.append((found := clip(*arguments)).size)
            return found

        monkeypatch.setattr(report, "_clip", sized)
        options = ("--checkpoint", run, "--data", songs, "--report", folder)
        assert call(*options) == 0
        monkeypatch.setattr(report, "ROOM", sizes[0] + min(sizes) - 1)
        assert call(*options) == 0
        text = (folder / "index.html").read_text()
        assert re.findall("<h3>(.*?)</h3>", text) == [html.escape(worst)]
        assert _Page(text).tags.count("audio") == 4
        assert "would grow too large: 1." in text
        assert html.escape(other) in text  # its scores are there
        assert (folder / "index.html").stat().st_size < 1e6


def test_all_measures_without_a_report(run, song_root, capsys, tmp_path):
    scores = tmp_path / "scores.json"
    options = ("--metrics", "all", "--json", scores)
    assert call("--checkpoint", run, "--data", song_root, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:17].strip() for line in lines[1:]] == ["tiny", *NAMES]
    assert list(json.loads(scores.read_text())["songs"]) == ["D - Four"]
    assert not list(tmp_path.glob("**/results"))


def test_a_bad_song_is_told_and_the_others_are_scored(run, song_root, capsys, caplog):
    shutil.copytree(song_root / "test" / "D - Four", song_root / "test" / "E - Five")
    (song_root / "test" / "D - Four" / "vocals.wav").write_text("text")
    assert call("--checkpoint", run, "--data", song_root, "--metrics", "all") == 1
    assert "error: " in caplog.text
    assert "vocals.wav: not readable" in caplog.text
    shutil.rmtree(song_root / "test" / "E - Five")
    capsys.readouterr()
    assert call("--checkpoint", run, "--data", song_root, "--metrics", "all") == 1
    assert capsys.readouterr().out == ""
    assert "no song could be scored" in caplog.text


def test_usage_errors_are_one_line(run, song_root, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    for options, message in (
        (["-j", "0"], "--jobs must be at least 1"),
        (["--report", tmp_path / "r", "--metrics", "usdr"], "--report needs --metrics all"),
        (["--report", tmp_path / "file"], "is no folder"),
        (["--checkpoint", run], "named twice"),
    ):
        caplog.clear()
        assert call("--checkpoint", run, "--data", song_root, *options) == 2
        (line,) = caplog.messages
        assert line.startswith("error: ")
        assert message in line


def test_the_quick_table_of_two_checkpoints_and_of_a_silent_voice(
    run, other_run, songs, capsys, caplog, tmp_path
):
    scores = tmp_path / "s.json"
    options = ("--data", songs, "--json", scores, "--leakage", "-j", 2)
    assert call("--checkpoint", run, "--checkpoint", other_run, *options) == 0
    head, *rows, median = capsys.readouterr().out.splitlines()
    assert head.endswith("tiny leakage  other leakage")
    assert head.split()[3:8] == ["mixture", "silence", "tiny", "other", "ideal"]
    assert rows[2].split()[-7:-2] == ["-"] * 5
    assert median.startswith("median")
    assert "the vocals are silent in D - No Voice" in caplog.text
    found = json.loads(scores.read_text())
    assert found["D - No Voice"]["tiny"] is None
    assert found["C - Two"]["tiny"] is not None


def test_pieces_of_a_clip_are_kept_as_they_were(run, songs, tmp_path):
    from vocalsep_jax.data.songs import find_library
    from vocalsep_jax.evaluation.full_scores import Window
    from vocalsep_jax.evaluation.store import Store

    (song, *_) = find_library(songs).splits["test"]
    store, window = Store(tmp_path, 8000), Window("best", 3, 5, 0.0)
    mixture = song.load(8000).mixture
    store.write_clip(song, "mixture", window, mixture)
    np.testing.assert_allclose(
        store.read_clip(song, "mixture", window), mixture[24_000:40_000], atol=2**-15
    )
    assert store.has_clip(song, "mixture", window)
    assert not store.has_clip(song, "vocals", window)
    assert store.read_clip(song, "vocals", window) is None
    assert [soundfile.info(p).subtype for p in tmp_path.iterdir()] == ["PCM_16"]
