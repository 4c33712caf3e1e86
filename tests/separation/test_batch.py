import concurrent.futures
import io
import logging
import sys
import threading
import types

import numpy as np
import pytest

from tests.conftest import tone, write_song
from tests.separation.split import SHARE, Splitter, outputs_in
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.runtime import disk
from vocalsep_jax.separation import batch
from vocalsep_jax.separation.batch import Batch, ProgressLine, Settings
from vocalsep_jax.separation.stem_files import Separated

WAV = Encoding()


@pytest.fixture
def songs(tmp_path):
    """Three songs' files."""
    folder = write_song(tmp_path / "in", {name: tone(440, 0.2) for name in "abc"})
    return sorted(folder.iterdir())


def make(songs, encoding=WAV, **settings):
    inputs = {key: song for song in songs if (key := disk.identity(song))}
    return Batch(Splitter(), Settings(encoding, **settings), inputs, len(songs))


def planned(songs, out):
    return [(song, outputs_in(out / song.stem)) for song in songs]


def written(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_becomes_of_each_song_is_told(songs, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    made = make(songs[:1])
    (entry,) = made.separate_all(planned(songs[:1], tmp_path / "out"))
    outputs = {stem: str(path) for stem, path in outputs_in(tmp_path / "out" / "a").items()}
    assert entry.pop("seconds") > 0
    assert entry.pop("times_real_time") > 0
    assert entry == {
        "song": str(songs[0]),
        "status": "done",
        "outputs": outputs,
        "sample_rate": 8000,
        "channels": 2,
        "samples": 1600,
        "clipped_samples": 0,
        "scale": 1.0,
    }
    assert capsys.readouterr().out.splitlines() == [*outputs.values()]
    assert caplog.messages[0].startswith(f"[1/1] {songs[0]}: 0.")


def test_the_settings_are_those_of_every_song(songs, tmp_path):
    made = make(songs, encoding=Encoding("flac", "int24"), clip_mode="rescale", start=0.05, duration=0.1)
    entries = made.separate_all([(song, outputs_in(tmp_path / song.stem, "flac")) for song in songs])
    assert [entry["samples"] for entry in entries] == [800] * 3
    found, _ = files.read(tmp_path / "b" / "vocals.flac")
    np.testing.assert_allclose(found, SHARE * tone(440, 0.2)[400:1200], atol=2**-15)


def test_clipped_samples_are_warned_of(songs, tmp_path, caplog):
    made = make(songs[:1])
    made.separator.separate_to = lambda *_, **__: Separated(8000, 8000, 2, clipped=7)
    (entry,) = made.separate_all(planned(songs[:1], tmp_path))
    assert entry["clipped_samples"] == 7
    assert caplog.messages == [f"{songs[0]}: 7 samples clipped (--clip-mode rescale avoids it)"]


def test_one_bad_file_does_not_stop_the_others(songs, tmp_path, caplog):
    songs[1].write_text("text")
    plan = planned(songs, tmp_path / "out")
    plan.insert(1, (tmp_path / "none.wav", outputs_in(tmp_path / "out" / "none")))
    plan.insert(3, (tmp_path / "empty", "no audio files in this folder"))
    entries = make(songs).separate_all(plan)
    assert [entry["status"] for entry in entries] == ["done", "failed", "failed", "failed", "done"]
    errors = [entry["error"] for entry in entries if "error" in entry]
    assert errors[0] == f"{tmp_path / 'none.wav'}: no such file"
    assert errors[1].startswith(f"{songs[1]}: not readable as audio")
    assert errors[2] == f"{tmp_path / 'empty'}: no audio files in this folder"
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        f"error: {error}" for error in errors
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if list(p.iterdir())) == ["a", "c"]


def test_songs_whose_outputs_are_all_there_may_be_left(songs, tmp_path, caplog):
    caplog.set_level("INFO")
    plan = planned(songs, tmp_path / "out")
    make(songs).separate_all(plan)
    plan[1][1]["no_vocals"].unlink()
    plan[2][1]["vocals"].write_text("whatever it is")
    made = make(songs, skip_existing=True)
    entries = made.separate_all(plan)
    assert [entry["status"] for entry in entries] == ["skipped", "done", "skipped"]
    assert entries[0]["outputs"] == {stem: str(path) for stem, path in plan[0][1].items()}
    assert made.separator.songs == [songs[1]]
    assert caplog.messages.count(f"[1/3] {songs[0]}: there already") == 1
    made.settings = Settings(WAV)
    assert [entry["status"] for entry in made.separate_all(plan)] == ["done"] * 3


def test_an_input_is_never_overwritten(songs, tmp_path, caplog):
    before = written(tmp_path)
    (entry,) = make(songs).separate_all([(songs[0], {"vocals": songs[0]})])
    assert entry["error"] == f"{songs[0]}: its output would overwrite it"
    link = tmp_path / "link.wav"
    link.symlink_to(songs[1])
    (entry,) = make(songs).separate_all([(songs[0], {"vocals": tmp_path / "out.wav", "no_vocals": link})])
    assert entry["error"] == f"{songs[0]}: its output would overwrite {songs[1]}"
    link.unlink()
    assert written(tmp_path) == before


def test_a_song_that_is_gone_though_its_outputs_are_there(songs, tmp_path):
    plan = planned(songs[:1], tmp_path / "out")
    make(songs).separate_all(plan)
    songs[0].unlink()
    (entry,) = make(songs).separate_all(plan)
    assert entry["error"] == f"{songs[0]}: no such file"
    songs[0].symlink_to(songs[0])
    (entry,) = make(songs).separate_all(plan)
    assert entry["status"] == "failed"
    assert len(written(tmp_path / "out")) == 2


def test_several_at_once_are_the_same_songs(songs, tmp_path, capsys):
    songs[1].write_text("text")
    statuses = []
    for jobs in (1, 3):
        entries = make(songs, jobs=jobs).separate_all(planned(songs, tmp_path / str(jobs)))
        statuses.append([(entry["song"], entry["status"]) for entry in entries])
        assert len(capsys.readouterr().out.splitlines()) == 4
    assert statuses[0] == statuses[1] == list(zip(map(str, songs), ["done", "failed", "done"], strict=True))
    assert written(tmp_path / "1") == written(tmp_path / "3")


def test_they_are_separated_at_once(songs, tmp_path):
    """Each waits for the others."""
    made, all_there = make(songs, jobs=3), threading.Barrier(3, timeout=30)
    made.separator.separate_to = lambda *_, **__: (all_there.wait(), Separated(8000, 8000, 2))[1]
    assert [x["status"] for x in made.separate_all(planned(songs, tmp_path))] == ["done"] * 3


def test_an_error_that_nobody_expected_stops_all(songs, tmp_path):
    made = make(songs)
    made.separator.separate_to = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        made.separate_all(planned(songs, tmp_path))
    assert made.stopping.is_set()


def test_interrupted_while_songs_are_queued(songs, tmp_path, monkeypatch):
    """Those that wait already are not separated first, and the one under way leaves nothing."""
    made, under_way = make(songs), threading.Event()

    class Interrupted(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function, number, *rest):
            if number == 3:
                under_way.wait(30)
                raise KeyboardInterrupt
            return super().submit(function, number, *rest)

    separate_to = made.separator.separate_to

    def slowly(*arguments, progress, **options):
        def wait(*how_far):
            under_way.set()
            made.stopping.wait(30)
            progress(*how_far)

        return separate_to(*arguments, progress=wait, **options)

    made.separator.separate_to = slowly
    futures = types.SimpleNamespace(Future=concurrent.futures.Future, ThreadPoolExecutor=Interrupted)
    monkeypatch.setattr(batch, "concurrent", types.SimpleNamespace(futures=futures))
    (entry,) = made.separate_all(planned(songs, tmp_path / "out"))
    assert (entry["song"], entry["status"], entry["error"]) == (str(songs[0]), "failed", "interrupted")
    assert made.stopping.is_set()
    assert made.separator.songs == [songs[0]]
    assert not written(tmp_path / "out")


def test_progress_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    now = [0.0]
    monkeypatch.setattr(batch.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "120")
    progress = ProgressLine()
    with progress.song("[1/2] a.wav"):
        now[0] = 5.0
        progress.show("[1/2] a.wav", 60.0, 240.0)
        assert "[1/2] a.wav:  25 %  12.0 x real time  15 s left" in screen.getvalue()
        with progress.song("[2/2] b.aac"):
            now[0] = 10.0
            progress.show("[2/2] b.aac", 30.0, 0.0)
            line = screen.getvalue().split("\r")[-1]
            assert "[1/2] a.wav:  25 %" in line
            assert "[2/2] b.aac: 30 s  6.0 x real time" in line
            assert len(line) == 119
    assert screen.getvalue().split("\r")[-2:] == [" " * 119, ""]


def test_progress_elsewhere(monkeypatch, caplog):
    caplog.set_level("INFO")
    now = [0.0]
    monkeypatch.setattr(batch.time, "monotonic", lambda: now[0])
    progress = ProgressLine()
    with progress.song("[1/1] a.wav"):
        for done in (30.0, 70.0, 100.0):
            now[0] = done
            progress.show("[1/1] a.wav", done, 140.0)
    assert caplog.messages == ["[1/1] a.wav:  50 %  1.0 x real time  1 min 10 s left"]


def test_lines_of_the_log_take_the_place_of_what_is_shown(monkeypatch, caplog):
    caplog.set_level("INFO")
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "40")
    ProgressLine().log(logging.INFO, "%s done", "a.wav")
    assert screen.getvalue() == "\r" + " " * 39 + "\r"
    assert caplog.messages == ["a.wav done"]
