import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the train extra")

from matplotlib.image import imread

from tests.conftest import write_song
from tests.data.check.conftest import SONG_RATE, tune
from vocalsep_jax.data.check import figure
from vocalsep_jax.data.check.examination import Examination, examine
from vocalsep_jax.data.check.files import Folder, SongFiles
from vocalsep_jax.data.check.song import SongReport


def test_a_line_a_song(good_root, tmp_path):
    write_song(
        good_root / "train" / "A $ilent one", {"vocals": 0 * tune(0), "accompaniment": tune(10)}, SONG_RATE
    )
    (good_root / "valid" / "Song 3" / "vocals.wav").write_bytes(b"rubbish")
    examination = examine(good_root)
    drawn = figure.draw(examination)
    lengths, voice, levels = drawn.axes[:3]
    labels = lengths.get_yticklabels()
    assert [x.get_text().replace("\\", "") for x in labels] == [x.song.name for x in examination.reports]
    colors = {x.get_text(): x.get_color() for x in labels}
    assert colors["Song 3"] == "#c0161d"
    assert colors["A \\$ilent one"] == "#9a6200"
    assert len(set(colors.values())) == 3
    image = voice.images[0].get_array()
    assert image.shape[0] == 6
    sounds = [not np.ma.getmaskarray(np.ma.masked_invalid(row)).all() for row in image]
    assert sounds == [x.voiced_seconds > 0 for x in examination.reports]
    assert np.nanmax(image) == 0
    assert [x.get_title() for x in (lengths, levels)] == ["Length", "Levels"]
    assert drawn.get_suptitle() == "songs: 6 songs, not fit to train on, 1 errors, 1 warnings"
    figure.save(examination, tmp_path / "new" / "songs.png")
    assert imread(tmp_path / "new" / "songs.png").shape[1] == 1760


def test_names_that_are_not_text_are_drawn(tmp_path):
    odd = os.fsdecode(b"caf\xe9\n$1 $2")
    report = SongReport(SongFiles(odd, "train", Path("a"), {}))
    drawn = figure.draw(Examination(tmp_path / odd, Folder((), None, "", {}, {}), [report], [], []))
    drawn.canvas.draw()
    (label,) = drawn.axes[0].get_yticklabels()
    assert label.get_text() == r"caf\udce9\n\$1 \$2"
    assert drawn.get_suptitle().startswith(label.get_text() + ": 1 songs")


@pytest.mark.parametrize("count", [0, 1, 400])
def test_none_or_many_songs(count, tmp_path):
    reports = [SongReport(SongFiles(f"Song {n}", "train", Path("a"), {})) for n in range(count)]
    drawn = figure.draw(Examination(tmp_path, Folder((), None, "", {}, {}), reports, [], []))
    assert 2 < drawn.get_figheight() < 65
    drawn.canvas.draw()
