import logging
import shutil

import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_container, write_song
from vocalsep_jax.data import songs
from vocalsep_jax.data.songs import MUSDB_VALIDATION, SongError, find_library


def load(root, split="train", index=0, rate=8000, **options):
    return find_library(root, **options).splits[split][index].load(rate)


def test_a_song_is_its_stems_and_the_mixture_is_their_sum(song_root):
    library = find_library(song_root)
    assert [len(library.splits[s]) for s in songs.SPLITS] == [2, 1, 1]
    song = library.splits["test"][0]
    assert song.name == "D - Four"
    stems = song.load(8000)
    assert stems.vocals.shape == stems.accompaniment.shape == (5 * 8000, 2)
    assert stems.vocals.dtype == np.float32
    np.testing.assert_allclose(stems.vocals, tone(590, 5), atol=1e-4)
    np.testing.assert_array_equal(stems.mixture, stems.vocals + stems.accompaniment)


def test_a_flat_folder_of_songs_is_training_songs(song_root):
    library = find_library(song_root / "train")
    assert len(library.splits["train"]) == 2
    assert len(library.splits["valid"]) == 1
    assert library.splits["test"] == ()


def test_the_seeded_choice_is_stable_and_disjoint(song_root):
    choices = {seed: find_library(song_root, seed=seed) for seed in range(6)}
    for seed, library in choices.items():
        chosen = songs.names(library.splits["valid"])
        assert chosen == songs.names(find_library(song_root, seed=seed).splits["valid"])
        assert not set(chosen) & set(songs.names(library.splits["train"]))
        assert f"seed {seed}" in library.validation_choice
    assert len({x.splits["valid"][0].name for x in choices.values()}) > 1


def test_validation_songs_can_be_named_or_counted(song_root):
    assert songs.names(find_library(song_root, valid_names=["B - Two"]).splits["valid"]) == ["B - Two"]
    assert len(find_library(song_root, valid_songs=2).splits["valid"]) == 2
    with pytest.raises(SongError, match="no song called 'X'"):
        find_library(song_root, valid_names=["X"])


def test_a_valid_folder_is_used(song_root):
    shutil.move(song_root / "test", song_root / "valid")
    library = find_library(song_root)
    assert songs.names(library.splits["valid"]) == ["D - Four"]
    assert len(library.splits["train"]) == 3


def test_musdb_hq_with_its_published_validation_songs(tmp_path):
    stems = {s: tone(100 * (n + 1), 1) for n, s in enumerate(("vocals", "drums", "bass", "other"))}
    stems["mixture"] = sum(stems.values())
    for name in ("Some - Song", MUSDB_VALIDATION[3], MUSDB_VALIDATION[7]):
        write_song(tmp_path / "train" / name, stems)
    write_song(tmp_path / "test" / "Test - Song", stems)
    library = find_library(tmp_path)
    assert songs.names(library.splits["train"]) == ["Some - Song"]
    assert set(songs.names(library.splits["valid"])) == {MUSDB_VALIDATION[3], MUSDB_VALIDATION[7]}
    assert "MUSDB18" in library.validation_choice
    song = library.splits["train"][0].load(8000)
    expected = stems["drums"] + stems["bass"] + stems["other"]
    np.testing.assert_allclose(song.accompaniment, expected, atol=2e-4)
    np.testing.assert_array_equal(song.mixture, song.given_mixture)
    np.testing.assert_allclose(song.mixture, song.vocals + song.accompaniment, atol=2e-4)
    assert len(MUSDB_VALIDATION) == len(set(MUSDB_VALIDATION)) == 14


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_vocals_and_mixture_in_every_format(tmp_path, suffix):
    vocals, rest = tone(440, 1, 44_100), tone(3000, 1, 44_100)
    write_song(tmp_path / "A", {"vocals": vocals, "mixture": vocals + rest}, 44_100, suffix)
    (song,) = find_library(tmp_path).splits["train"]
    accompaniment = song.load(44_100).accompaniment
    middle = slice(10_000, 30_000)
    if suffix == "mp3":  # which has a delay of its own
        assert abs(np.abs(accompaniment).max() - 0.3) < 0.05
    else:
        assert np.abs(accompaniment - rest)[middle].max() < 0.03


def test_other_sample_rates_and_mono(tmp_path):
    write_song(tmp_path / "A", {"vocals": tone(440, 2, 16_000, 1), "accompaniment": tone(200, 2)}, 16_000)
    soundfile.write(tmp_path / "A" / "accompaniment.wav", tone(200, 2), 8000)
    song = load(tmp_path)
    assert song.vocals.shape == (16_000, 2)
    np.testing.assert_allclose(song.vocals[2000:-2000], tone(440, 2)[2000:-2000], atol=2e-3)


def test_slightly_unequal_lengths_are_cut_with_a_warning(tmp_path, caplog):
    write_song(tmp_path / "A", {"vocals": tone(440, 2), "accompaniment": tone(200, 2.1)})
    assert load(tmp_path).accompaniment.shape == (16_000, 2)
    assert "differ in length by 0.100 s" in caplog.text


@pytest.mark.parametrize(
    ("stems", "message"),
    [
        ({"vocals": tone(440, 2), "accompaniment": tone(200, 4)}, "stems differ in length"),
        ({"vocals": tone(440, 1, channels=6), "accompaniment": tone(1, 1)}, "has 6 channels"),
        ({"vocals": tone(440, 1) * np.nan, "accompaniment": tone(1, 1)}, "not finite"),
        ({"vocals": tone(440, 0), "accompaniment": tone(1, 0)}, "holds no samples"),
    ],
)
def test_unusable_stems_are_named(tmp_path, stems, message):
    folder = tmp_path / "A"
    folder.mkdir()
    for name, samples in stems.items():
        soundfile.write(folder / f"{name}.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(SongError, match=message) as error:
        load(tmp_path)
    assert str(folder) in str(error.value)


def test_a_file_that_is_not_audio_is_named(song_root):
    path = song_root / "train" / "A - One" / "vocals.wav"
    path.write_text("not audio")
    with pytest.raises(SongError, match=r"A - One/vocals\.wav: not readable as audio"):
        load(song_root, valid_names=["B - Two"])


def test_silent_stems_and_other_mixtures_are_reported(tmp_path, caplog):
    write_song(
        tmp_path / "A",
        {"vocals": tone(440, 1) * 0, "accompaniment": tone(200, 1), "mixture": tone(200, 1) * 0.5},
    )
    load(tmp_path)
    assert "A: its vocals are silent" in caplog.text
    assert "A: the given mixture differs from the sum of the stems" in caplog.text


def test_a_folder_without_enough_stems_is_skipped_with_a_warning(song_root, caplog):
    write_song(song_root / "train" / "Only vocals", {"vocals": tone(440, 1)})
    assert len(find_library(song_root).splits["train"]) == 2
    assert "Only vocals: skipped, it needs" in caplog.text


def test_folders_without_songs(tmp_path, song_root):
    with pytest.raises(SongError, match="no such folder"):
        find_library(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SongError, match="no songs found; each song is a folder"):
        find_library(tmp_path / "empty")
    with pytest.raises(SongError, match="at least two songs"):
        songs.check_trainable(find_library(song_root / "test"))


def test_two_files_for_one_stem(song_root):
    folder = song_root / "train" / "A - One"
    soundfile.write(folder / "vocals.flac", tone(440, 1), 8000)
    with pytest.raises(SongError, match="two files for vocals"):
        find_library(song_root)


def test_the_fingerprint_follows_the_files(song_root):
    before = find_library(song_root).fingerprint()
    assert before == find_library(song_root).fingerprint()
    soundfile.write(song_root / "train" / "A - One" / "vocals.wav", tone(441, 2), 8000)
    assert find_library(song_root).fingerprint() != before


class TestStemFiles:
    """MUSDB18's .stem.mp4."""

    def test_streams_are_mixture_drums_bass_other_vocals(self, tmp_path, caplog):
        parts = [tone(f, 1, 44_100, level=0.15) for f in (110, 330, 700, 2000)]
        write_container(tmp_path / "A - B.stem.mp4", [sum(parts), *parts])
        (song,) = find_library(tmp_path).splits["train"]
        assert song.name == "A - B"
        with caplog.at_level(logging.WARNING):
            stems = song.load(44_100)
        assert "differs" not in caplog.text

        def level(x, frequency):
            window = np.hanning(20_000)
            spectrum = np.abs(np.fft.rfft(x[10_000:30_000, 0] * window)) / window.sum() * 2
            return spectrum[round(frequency * 20_000 / 44_100)]

        assert level(stems.vocals, 2000) > 0.1
        assert level(stems.vocals, 330) < 0.01
        assert level(stems.accompaniment, 2000) < 0.01
        assert all(level(stems.accompaniment, f) > 0.1 for f in (110, 330, 700))

    def test_other_mp4_files_are_refused(self, tmp_path):
        write_container(tmp_path / "A.stem.mp4", [tone(440, 1, 44_100)] * 2)
        with pytest.raises(SongError, match="has 2 audio streams"):
            load(tmp_path, rate=44_100)
        streams = [(tone(440, 1, 44_100), 44_100)] * 4 + [(tone(440, 1, 22_050), 22_050)]
        write_container(tmp_path / "A.stem.mp4", [x for x, _ in streams], [rate for _, rate in streams])
        with pytest.raises(SongError, match="differ in sample rate"):
            load(tmp_path, rate=44_100)
        (tmp_path / "A.stem.mp4").write_bytes(b"nonsense")
        with pytest.raises(SongError, match="not readable as audio"):
            load(tmp_path)


def test_the_real_songs(real_songs):
    library = find_library(real_songs)
    assert len(library.splits["train"]) + len(library.splits["valid"]) == 4
    stems = library.splits["test"][0].load(44_100)
    assert 230 < len(stems.vocals) / 44_100 < 240
    assert np.abs(stems.mixture).max() < 1
