import os
from pathlib import Path

import pytest

from tests.conftest import write_song
from tests.data.check.conftest import SONG_RATE, stems, tune
from vocalsep_jax.data.check import table
from vocalsep_jax.data.check.examination import Examination, examine
from vocalsep_jax.data.check.files import Folder, SongFiles, StemSource
from vocalsep_jax.data.check.problems import Problem
from vocalsep_jax.data.check.song import SongReport


def test_good_songs(good_root):
    lines = table.as_text(examine(good_root)).splitlines()
    assert lines[0] == str(good_root)
    assert lines[1] == "layouts: vocals and accompaniment (5)"
    assert lines[2] == "files:   10 of 22050 Hz, 10 with 2 channels"
    assert lines[3].startswith("train:   3 songs, 0.01 h, voice in ")
    assert lines[4].endswith("(the folder valid/)")
    assert len([line for line in lines if line.startswith("Song ")]) == 5
    assert lines[-1] == "fit to train on: 5 songs, 1 min 10 s, 0 errors, 0 warnings"


def test_problems_say_what_to_do(good_root):
    write_song(good_root / "train" / "Bad\nname", {"vocals": tune(1)}, SONG_RATE)
    write_song(good_root / "test" / "Leak", stems(0), SONG_RATE)
    text = table.as_text(examine(good_root))
    assert "error: The same sound in two of training, validation and test: move" in text
    assert "  test/Leak: 14 s of its vocals and accompaniment and mixture" in text
    assert "warning: Not used: " in text
    assert "  Bad\\nname: is skipped" in text
    assert text.endswith("1 error, 1 warning")


def test_names_that_are_not_text_keep_their_column():
    names = (os.fsdecode(b"caf\xe9"), "x" * 9, "é" * 100)
    reports = [SongReport(SongFiles(name, "train", Path("a"), {})) for name in names]
    text = table.as_text(Examination(Path("songs"), Folder((), None, "", {}, {}), reports, [], []))
    rows = [line for line in text.splitlines() if "  train  " in line]
    assert rows[0].startswith(r"caf\udce9 ")
    assert len(rows) == 3
    assert len({line.index("  train  ") for line in rows}) == 1


def test_long_lists_are_cut():
    problems = [Problem("silent", f"Song {n}", "vocals: all zeros") for n in range(25)]
    folder = Folder((), None, "", {}, {})
    text = table.as_text(Examination(Path("songs"), folder, [], [], problems))
    assert text.count("all zeros") == 20
    assert "  and 5 more" in text


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        ("vocals drums bass other mixture", "MUSDB18-HQ folders"),
        ("vocals accompaniment mixture", "vocals and accompaniment"),
        ("vocals mixture", "vocals and mixture"),
        ("accompaniment", "accompaniment alone"),
        ("", "other"),
    ],
)
def test_layouts_have_names(stems, expected):
    song = SongFiles("a", "train", Path("a"), {x: StemSource(Path("a")) for x in stems.split()})
    assert table.layout(song) == expected
    file = SongFiles("a", "train", Path("a.stem.mp4"), song.stems)
    assert table.layout(file) == "MUSDB18 stem files"
