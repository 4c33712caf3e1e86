import dataclasses
import json
import threading

import numpy as np
import pytest

from tools import load_test
from vocalsep_jax import Separator


def test_a_few_threads_and_songs(run, tmp_path, capsys):
    arguments = ["--threads", "4", "--songs", "24", "--kinds", "6", "--json", str(tmp_path / "load.json")]
    assert load_test.main([str(run), *arguments]) == 0
    assert "24 songs of" in capsys.readouterr().out
    found = json.loads((tmp_path / "load.json").read_text())
    assert found["differing"] == []
    first, *_, last = found["usage"]
    assert last["files"] <= first["files"]
    assert last["threads"] <= first["threads"]


def test_kinds_differ_and_stay_the_same():
    one, same, other = (load_test.Song.of_kind(*numbers) for numbers in ((0, 1), (0, 1), (0, 2)))
    np.testing.assert_array_equal(one.samples, same.samples)
    assert one.samples.shape != other.samples.shape
    songs = [load_test.Song.of_kind(0, kind) for kind in range(50)]
    assert {song.samples.shape[1] for song in songs} == {1, 2, 3}
    assert {song.rate for song in songs} == set(load_test.RATES)
    assert {song.is_file for song in songs} == {True, False}


def test_songs_that_come_out_otherwise_are_found(run, tmp_path, monkeypatch):
    separate = Separator.separate

    def careless(self, samples, rate):
        stems = separate(self, samples, rate)
        if threading.current_thread() is not threading.main_thread():
            stems["vocals"][0] += 1e-7
        return stems

    monkeypatch.setattr(Separator, "separate", careless)
    load = load_test.run(Separator(run), tmp_path, threads=2, songs=6, kinds=3, seed=0)
    arrays = [n for n in range(6) if not load_test.Song.of_kind(0, n % 3).is_file]
    assert load.differing == arrays
    assert load.problems() == [f"{len(arrays)} songs differ: {arrays}"]


def test_what_is_left_is_told():
    usage = load_test.Usage(2**30, 10, 1)
    more = load_test.Usage(2**31, 12, 3)
    load = load_test.Load(1, 1.0, 1.0, [], [usage, usage, usage, more, more])
    assert load.problems() == [
        "2 files are left open",
        "2 threads are left",
        "memory grew by 1024 MiB in the second half",
    ]
    assert dataclasses.replace(load, usage=[usage] * 5).problems() == []
    one_count = [usage, usage, usage, usage, load_test.Usage(2**31, 10, 1), usage, usage]
    assert dataclasses.replace(load, usage=one_count).problems() == []


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--songs", "x"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        load_test.main(arguments)
    assert stop.value.code == 2


def test_a_model_that_is_not_there(tmp_path):
    assert load_test.main([str(tmp_path / "missing")]) == 2
