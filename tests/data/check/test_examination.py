import json
import shutil
import threading
import time

import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_container, write_song
from tests.data.check.conftest import SONG_RATE, stems, tune
from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.data.check import examination
from vocalsep_jax.data.check.examination import examine
from vocalsep_jax.data.check.problems import KINDS
from vocalsep_jax.data.check.song import SongReport
from vocalsep_jax.data.songs import SongError


def found(examination):
    """Kinds and songs of all problems."""
    return {(x.kind, x.song) for x in examination.problems}


def reason(examination):
    """Of the only problem."""
    (problem,) = examination.problems
    return problem.reason


def add(root, name, files, split="train", **options):
    return write_song(root / split / name, files, SONG_RATE, **options)


def test_good_songs_have_no_problems(good_root):
    examination = examine(good_root)
    assert examination.problems == []
    assert examination.fit
    assert examination.shared == []


@pytest.mark.slow
def test_built_in_songs_have_no_problems(tmp_path, generated):
    for n, song in enumerate(generated):
        files = {"vocals": song.vocals, "accompaniment": song.accompaniment, "mixture": song.mixture}
        add(tmp_path, f"Song {n}", files, ("train", "valid", "test")[n % 3])
    assert found(examine(tmp_path)) == set()


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("valid", "train"), ("test", "valid")])
def test_a_leak(good_root, split, other):
    number = 0 if other == "train" else 3
    excerpt = {x: 0.4 * y[2 * SONG_RATE + 77 :] for x, y in stems(number).items()}
    add(good_root, "Another name", excerpt, split)
    examination = examine(good_root)
    assert found(examination) == {("leak", f"{split}/Another name")}
    assert not examination.fit
    said = reason(examination)
    assert "12 s of its vocals and accompaniment and mixture (at 0:00, 0:02 there)" in said
    assert said.endswith(f"are in {other}/Song {number} too")


@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
def test_a_leak_of_one_stem_in_another_mixture(good_root, stem):
    add(good_root, "Remix", stems(7) | {stem: stems(0)[stem]}, "test")
    examination = examine(good_root)
    assert found(examination) == {("leak", "test/Remix")}
    assert f" of its {stem} " in reason(examination)


def test_a_leak_through_an_mp3_without_a_voice(good_root, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    soundfile.write(more / "a.mp3", stems(4)["accompaniment"], SONG_RATE)
    assert found(examine(good_root, instrumentals=more)) == {("leak", "test/Song 4")}


def test_a_song_twice_in_a_split_is_a_warning(good_root):
    add(good_root, "Same", {x: y[SONG_RATE:] for x, y in stems(1).items()})
    examination = examine(good_root)
    assert found(examination) == {("duplicate", "train/Song 1")}
    assert examination.fit


def test_all_damaged_files_are_listed(good_root):
    (good_root / "train" / "Song 0" / "vocals.wav").write_bytes(b"rubbish")
    path = good_root / "test" / "Song 4" / "accompaniment.wav"
    path.write_bytes(path.read_bytes()[:20])
    broken = tone(440, 1.0)
    broken[5] = np.inf
    soundfile.write(good_root / "valid" / "Song 3" / "vocals.wav", broken, SONG_RATE, subtype="FLOAT")
    examination = examine(good_root)
    assert found(examination) == {("unreadable", f"Song {n}") for n in (0, 3, 4)}
    assert not examination.fit


def planted():
    """Kind of problem to the stems, or the files, of a song that has it."""
    files = stems(9)
    voice, band = files["vocals"], files["accompaniment"]
    tones = tone(440, 14.0, SONG_RATE, level=1.2)
    return {
        "lengths": {"vocals": voice[: -2 * SONG_RATE], "accompaniment": band},
        "lengths_slightly": {"vocals": voice[: -SONG_RATE // 2], "accompaniment": band},
        "same_stems": {"vocals": voice, "accompaniment": -0.5 * voice},
        "silent": {"vocals": 0 * voice, "accompaniment": band},
        "bleed": {"vocals": voice, "accompaniment": 2 * voice + 0.5 * band},
        "mixture": files | {"mixture": np.roll(voice + band, 50, axis=0)},
        "clipping": {"vocals": np.clip(voice + tones, -1, 1), "accompaniment": band},
        "dc_offset": {"vocals": voice, "accompaniment": band + np.float32(0.02)},
        "channels": {"vocals": np.repeat(voice[:, :1], 3, axis=1), "accompaniment": band},
    }


@pytest.mark.parametrize("kind", planted())
def test_a_problem_that_was_planted_is_found_alone(good_root, kind):
    add(good_root, "Bad", planted()[kind])
    examination = examine(good_root)
    assert found(examination) == {(kind, "Bad")}
    assert examination.fit is not KINDS[kind].error


def test_a_mixture_that_is_late_soft_and_upside_down(good_root):
    files = stems(9)
    total = files["vocals"] + files["accompaniment"]
    add(good_root, "Bad", files | {"mixture": -0.5 * np.roll(total, 50, axis=0)})
    assert "50 samples (2.3 ms) later, 6.0 dB softer, upside down" in reason(examine(good_root))


def test_vocals_that_come_too_late_for_their_mixture(good_root):
    files = stems(9)
    total = files["vocals"] + files["accompaniment"]
    add(good_root, "Bad", {"vocals": np.roll(files["vocals"], 50, axis=0), "mixture": total})
    examination = examine(good_root)
    assert found(examination) == {("mixture", "Bad"), ("bleed", "Bad")}
    expected = "the voice in the mixture is 50 samples (2.3 ms) earlier than the vocals"
    assert expected in {x.reason for x in examination.problems}


def test_rates_that_differ(good_root):
    folder = add(good_root, "Bad", stems(9))
    soundfile.write(folder / "vocals.wav", tune(18, rate=44_100), 44_100)
    write_song(
        good_root / "train" / "Other",
        {x: tune(n, rate=32_000) for n, x in enumerate(("vocals", "accompaniment"), 50)},
        32_000,
    )
    assert found(examine(good_root)) == {("rates", "Bad"), ("rates", "Other")}


def test_material_that_was_upsampled(good_root):
    rng = np.random.default_rng(0)
    low = {
        x: 0.1 * rng.standard_normal((90_000, 2)).astype(np.float32) for x in ("vocals", "accompaniment")
    }
    add(good_root, "Bad", {x: resample(y, 11_025, SONG_RATE) for x, y in low.items()})
    assert found(examine(good_root)) == {("cut_off", "Bad")}


def test_no_voice_anywhere(tmp_path):
    for n, split in enumerate(("train", "train", "valid")):
        add(tmp_path, f"Song {n}", stems(n) | {"vocals": np.zeros((14 * SONG_RATE, 2), np.float32)}, split)
    examination = examine(tmp_path)
    assert {x.kind for x in examination.problems} == {"no_voice", "silent"}
    assert not examination.fit


def test_too_few_songs_or_none(tmp_path):
    examination = examine(tmp_path)
    assert found(examination) == {("refused", "")}
    assert reason(examination).startswith("no songs found")
    add(tmp_path, "One", stems(0))
    examination = examine(tmp_path)
    assert "at least two songs" in reason(examination)
    assert not examination.fit


def test_songs_that_training_would_not_take(good_root):
    add(good_root, "Half", {"vocals": tune(0)})
    folder = add(good_root, "Twice", stems(9))
    shutil.copy(folder / "vocals.wav", folder / "vocals.flac")
    assert found(examine(good_root)) == {("skipped", "Half"), ("unusable", "Twice")}


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SongError, match="no such folder"):
        examine(tmp_path / "nowhere")


@pytest.mark.slow
def test_stem_files_of_musdb18(tmp_path):
    for n, split in enumerate(("train", "valid")):
        parts = [tune(10 * n + k) for k in range(4)]
        streams = [np.sum(parts, axis=0), *parts]
        (tmp_path / split).mkdir()
        write_container(tmp_path / split / f"Song {n}.stem.mp4", streams, SONG_RATE)
    examination = examine(tmp_path)
    assert examination.problems == []
    assert all(len(x.levels) == 5 for x in examination.reports)
    assert all(x.residual_db < -15 for x in examination.reports)


def test_jobs_change_nothing_and_progress_is_told(good_root):
    told = []
    several = examine(good_root, jobs=3, progress=lambda *values: told.append(values))
    one = examine(good_root)
    assert json.dumps(several.as_json()) == json.dumps(one.as_json())
    assert told[-1][0] == pytest.approx(told[-1][1])
    assert told[-1][2:] == (5, 5)


def test_an_interruption_ends_all_songs(good_root, monkeypatch):
    begun, measured = threading.Event(), []

    def measure(song, progress):
        if song.name == "Song 0":
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        for _ in range(1000):
            progress(0.001)
            time.sleep(0.001)
        measured.append(song.name)
        return SongReport(song)

    monkeypatch.setattr(examination, "measure_song", measure)
    with pytest.raises(KeyboardInterrupt):
        examine(good_root, jobs=2)
    assert measured == []


def test_the_json_has_everything_but_the_fingerprints(good_root):
    add(good_root, "Leak", stems(0), "test")
    add(
        good_root,
        "Silent",
        {"vocals": np.zeros((SONG_RATE, 2), np.float32), "accompaniment": tune(30, 1.0)},
    )
    content = json.loads(json.dumps(examine(good_root).as_json(), allow_nan=False))
    assert content.keys() == {"folder", "fit", "validation_choice", "splits", "songs", "shared", "problems"}
    assert content["fit"] is False
    assert content["splits"]["train"]["songs"] == 4
    song = next(x for x in content["songs"] if x["name"] == "Song 1")
    assert song["split"] == "train"
    assert song["stems"]["vocals"]["rate"] == SONG_RATE
    assert 0.9 < song["voiced_share"] <= 1
    (shared,) = content["shared"]
    assert (shared["song"], shared["other_song"], shared["share_of_the_shorter"]) == ("Leak", "Song 0", 1)
    assert shared["begins_in_other"] == pytest.approx(0, abs=0.05)
    assert [x["severity"] for x in content["problems"]] == ["error", "warning"]
    assert all(x["advice"] and x["reason"] for x in content["problems"])
