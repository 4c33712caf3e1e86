import dataclasses
import logging
import shutil

import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_container, write_song
from vocalsep_jax.data import songs
from vocalsep_jax.data.augmentation import Augmentation
from vocalsep_jax.data.prepared import MemoryStore, prepare_song
from vocalsep_jax.data.sampling import training_plan
from vocalsep_jax.data.songs import MUSDB_VALIDATION, SongError, at_speeds, find_instrumentals, find_library


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
    with pytest.raises(SongError, match="at least two songs with a voice"):
        songs.check_trainable(find_library(song_root / "test"))


@pytest.mark.parametrize("find", [find_library, find_instrumentals])
@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/songs"])
def test_folders_that_cannot_be(find, name):
    with pytest.raises(SongError, match="cannot be looked at"):
        find(name)


def test_a_file_that_goes_away_while_it_is_looked_at(song_root, monkeypatch):
    make = songs._song

    def song(name, load, files):
        files["vocals"].unlink()
        return make(name, load, files)

    monkeypatch.setattr(songs, "_song", song)
    with pytest.raises(SongError, match=r"vocals\.wav: cannot be looked at \(No such file"):
        find_library(song_root)


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


def add_voiceless(root, name="N - None", frequency=150):
    """A song that is its accompaniment alone, of two seconds."""
    return write_song(root / name, {"accompaniment": tone(frequency, 2)})


class TestVoiceless:
    """Music without a voice."""

    def test_an_accompaniment_alone_is_a_song_whose_vocals_are_zeros(self, song_root, caplog):
        add_voiceless(song_root / "train")
        library = find_library(song_root, valid_names=["A - One"])
        found = {song.name: song.voiceless for song in library.splits["train"]}
        assert found == {"B - Two": False, "C - Three": False, "N - None": True}
        stems = library.splits["train"][-1].load(8000)
        assert stems.vocals.dtype == np.float32
        np.testing.assert_array_equal(stems.vocals, np.zeros((16_000, 2)))
        np.testing.assert_allclose(stems.accompaniment, tone(150, 2), atol=1e-4)
        np.testing.assert_array_equal(stems.mixture, stems.accompaniment)
        assert not caplog.messages

    def test_it_follows_its_file(self, song_root):
        file = add_voiceless(song_root / "train") / "accompaniment.wav"
        before = find_library(song_root).fingerprint()
        soundfile.write(file, tone(160, 3), 8000)
        assert find_library(song_root).fingerprint() != before

    def test_it_is_never_chosen_to_validate_on(self, song_root):
        for n in range(6):
            add_voiceless(song_root / "train", f"N - {n}")
        for seed in range(12):
            for count in (0, 1, 2, 9):
                library = find_library(song_root, seed=seed, valid_songs=count)
                assert not any(song.voiceless for song in library.splits["valid"])
                assert sum(song.voiceless for song in library.splits["train"]) == 6
                # One song with a voice is left to train on, however many are asked for.
                assert len(library.splits["valid"]) == (min(count, 2) or 1)

    def test_the_choice_of_the_others_is_as_it_is_without_it(self, song_root):
        before = [songs.names(find_library(song_root, seed=n).splits["valid"]) for n in range(8)]
        add_voiceless(song_root / "train", "0 - First")
        assert [songs.names(find_library(song_root, seed=n).splits["valid"]) for n in range(8)] == before

    def test_one_song_with_a_voice_is_too_few(self, song_root, tmp_path):
        shutil.move(song_root / "test" / "D - Four", tmp_path / "few" / "D - Four")
        for n in range(3):
            add_voiceless(tmp_path / "few", f"N - {n}")
        with pytest.raises(SongError, match="at least two songs with a voice"):
            songs.check_trainable(find_library(tmp_path / "few"))

    def test_voices_are_not_drawn_from_it_and_accompaniments_are(self, song_root):
        add_voiceless(song_root / "train", "0 - First")
        library = find_library(song_root, valid_names=["A - One"])
        assert songs.names(library.splits["train"]) == ["0 - First", "B - Two", "C - Three"]
        store = MemoryStore.of([prepare_song(song, 8000) for song in library.splits["train"]])
        assert store.table.sung.tolist() == [1, 2]
        index = np.arange(900, dtype=np.uint32)
        plan = training_plan(0, index, store.table, 1000, Augmentation(voiced_share=0.5, remix=1.0))
        assert set(plan.voice_song.tolist()) == {1, 2}
        assert np.bincount(plan.other_song, minlength=3).min() > 230


class TestInstrumentals:
    """A folder of music without a voice."""

    @pytest.fixture
    def folder(self, tmp_path):
        """Two files, one of them a flac, a song folder, and what is none of them."""
        folder = add_voiceless(tmp_path / "music", "In a folder", 170).parent
        soundfile.write(folder / "a tune.wav", tone(180, 1), 8000)
        soundfile.write(folder / "another.FLAC", tone(190, 1, 16_000, 1), 16_000, format="FLAC")
        soundfile.write(folder / ".hidden.wav", tone(200, 1), 8000)
        (folder / "notes.txt").write_text("no music")
        (folder / "Sung too.stem.mp4").write_bytes(b"a file of MUSDB18 has a voice")
        write_song(folder / "Sung", {"vocals": tone(440, 1), "accompaniment": tone(100, 1)})
        return folder

    def test_files_and_accompaniments_alone_are_found(self, folder):
        found = find_instrumentals(folder)
        assert songs.names(found) == ["a tune", "another", "In a folder"]
        assert all(song.voiceless for song in found)
        for song, frequency, seconds in zip(found, (180, 190, 170), (1, 1, 2), strict=True):
            stems = song.load(8000)
            assert not stems.vocals.any()
            middle = slice(500, -500)  # one of them is resampled
            expected = tone(frequency, seconds)
            assert stems.accompaniment.shape == expected.shape
            np.testing.assert_allclose(stems.accompaniment[middle], expected[middle], atol=2e-3)

    def test_they_are_trained_on_and_not_validated_on(self, song_root, folder):
        before = find_library(song_root, seed=3)
        library = find_library(song_root, instrumentals=folder, seed=3)
        assert library.splits["valid"] == before.splits["valid"] or (
            songs.names(library.splits["valid"]) == songs.names(before.splits["valid"])
        )
        new = songs.names(library.splits["train"])[len(before.splits["train"]) :]
        assert new == ["a tune", "another", "In a folder"]
        assert songs.names(library.splits["test"]) == ["D - Four"]
        assert library.fingerprint() != before.fingerprint()

    def test_where_there_are_none(self, tmp_path, song_root):
        with pytest.raises(SongError, match="missing: no such folder; give the folder that holds music"):
            find_instrumentals(tmp_path / "missing")
        with pytest.raises(SongError, match="no such folder"):
            find_library(song_root, instrumentals=tmp_path / "missing")
        (tmp_path / "empty").mkdir()
        write_song(tmp_path / "empty" / "Sung", {"vocals": tone(440, 1), "accompaniment": tone(100, 1)})
        with pytest.raises(SongError, match="empty: holds no music without a voice"):
            find_instrumentals(tmp_path / "empty")

    def test_of_the_name_of_a_song(self, song_root, folder):
        shutil.move(folder / "a tune.wav", folder / "B - Two.wav")
        with pytest.raises(SongError, match=r"'B - Two' is the name of a song in .* too; rename one"):
            find_library(song_root, instrumentals=folder)

    @pytest.mark.parametrize("name", ["a tune.flac", "In a folder.wav"])
    def test_two_of_one_name(self, folder, name):
        soundfile.write(folder / name, tone(180, 1), 8000)
        with pytest.raises(SongError, match=f"two songs are called '{name.split('.')[0]}'; rename one"):
            find_instrumentals(folder)

    def test_that_is_not_audio_is_named_when_it_is_read(self, folder):
        (folder / "a tune.wav").write_text("not audio")
        with pytest.raises(SongError, match=r"a tune\.wav: not readable as audio"):
            find_instrumentals(folder)[0].load(8000)


class TestAtSpeeds:
    """Songs played faster and slower."""

    def test_names_and_splits(self, song_root):
        add_voiceless(song_root / "train")
        library = find_library(song_root, valid_names=["A - One"])
        more = at_speeds(library, (0.9, 1.0, 1.25))
        assert songs.names(more.splits["train"]) == [
            "B - Two", "C - Three", "N - None",
            "B - Two (speed 0.9)", "C - Three (speed 0.9)", "N - None (speed 0.9)",
            "B - Two (speed 1.25)", "C - Three (speed 1.25)", "N - None (speed 1.25)",
        ]  # fmt: skip
        assert [song.voiceless for song in more.splits["train"]] == [False, False, True] * 3
        assert more.splits["train"][:3] == library.splits["train"]
        for split in ("valid", "test"):
            assert more.splits[split] == library.splits[split]
        assert (more.source, more.validation_choice) == (library.source, library.validation_choice)

    def test_without_speeds_it_is_the_same_library(self, song_root):
        library = find_library(song_root)
        for speeds in ((), (1.0,)):
            assert at_speeds(library, speeds) == library

    @pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
    def test_pitch_goes_up_and_length_down_by_the_speed(self, song_root, speed):
        library = find_library(song_root, valid_names=["A - One"])
        song = at_speeds(library, (speed,)).splits["train"][2]
        stems = song.load(8000)
        assert song.name == f"B - Two (speed {speed:g})"
        for samples, frequency in ((stems.vocals, 490), (stems.accompaniment, 110)):
            assert samples.shape == (round(3 * 8000 / speed), 2)
            spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples)), 2**18))
            assert np.argmax(spectrum) * 8000 / 2**18 == pytest.approx(frequency * speed, rel=1e-3)
            middle = samples[len(samples) // 4 : -len(samples) // 4]
            assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.3, rel=0.01)  # as loud
        assert stems.given_mixture is None

    def test_the_stems_stay_together(self, song_root):
        """What was the same in both is the same still."""
        song = find_library(song_root).splits["train"][0]
        same = dataclasses.replace(song, load=lambda rate: songs.Stems(*[song.load(rate).vocals] * 2))
        library = songs.Library("", {"train": (same,), "valid": (), "test": ()}, "")
        stems = at_speeds(library, (1.1,)).splits["train"][1].load(8000)
        np.testing.assert_array_equal(stems.vocals, stems.accompaniment)

    def test_fingerprints_tell_speeds_and_files_apart(self, song_root):
        library = find_library(song_root, valid_names=["A - One"])
        prints = [song.fingerprint for song in at_speeds(library, (0.9, 1.1)).splits["train"]]
        assert len(set(prints)) == 6
        assert prints == [song.fingerprint for song in at_speeds(library, (0.9, 1.1)).splits["train"]]
        soundfile.write(song_root / "train" / "B - Two" / "vocals.wav", tone(441, 3), 8000)
        again = find_library(song_root, valid_names=["A - One"])
        changed = [song.fingerprint for song in at_speeds(again, (0.9, 1.1)).splits["train"]]
        assert [a == b for a, b in zip(prints, changed, strict=True)] == [False, True] * 3


def test_the_real_songs(real_songs):
    library = find_library(real_songs)
    assert len(library.splits["train"]) + len(library.splits["valid"]) == 4
    stems = library.splits["test"][0].load(44_100)
    assert 230 < len(stems.vocals) / 44_100 < 240
    assert np.abs(stems.mixture).max() < 1
