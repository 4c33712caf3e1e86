import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_song
from tests.data.check.conftest import SONG_RATE, stems
from vocalsep_jax.data.check.files import find_songs
from vocalsep_jax.data.check.song import RECORDINGS, measure_song
from vocalsep_jax.data.sampling import VOICED_BLOCK_SECONDS, voiced_blocks


def measure(folder, files, rate=SONG_RATE, **options):
    write_song(folder / "song", files, rate, **options)
    (song,) = find_songs(folder).songs
    return measure_song(song)


def test_the_voice_sounds_where_training_has_it(tmp_path):
    files = stems(0)
    files["vocals"][4 * SONG_RATE : 9 * SONG_RATE] = 0
    report = measure(tmp_path, files)
    block = round(VOICED_BLOCK_SECONDS * SONG_RATE)
    # Blocks of 5512 samples; the file holds 16-bit integers.
    expected = voiced_blocks(np.round(files["vocals"] * 2**15) / 2**15, SONG_RATE) // block
    assert np.flatnonzero(report.active).tolist() == expected.tolist()
    assert report.voiced_seconds == 0.25 * len(expected)
    voice, band = (files[x].astype(float) for x in ("vocals", "accompaniment"))
    where = np.concatenate([np.arange(n * block, (n + 1) * block) for n in expected])
    ratio = 10 * np.log10(np.sum(voice[where] ** 2) / np.sum(band[where] ** 2))
    assert report.voice_to_accompaniment_db == pytest.approx(ratio, abs=0.01)
    assert report.seconds == pytest.approx(14)
    assert report.usable
    assert report.fingerprints.keys() == set(RECORDINGS)


def test_the_residual_and_the_alignment_of_a_mixture(tmp_path):
    files = stems(0)
    total = files["vocals"] + files["accompaniment"]
    report = measure(tmp_path / "same", files | {"mixture": total})
    assert report.residual_db < -60
    assert report.alignment.delay == 0
    late = measure(tmp_path / "late", files | {"mixture": 0.5 * np.roll(total, 321, axis=0)})
    assert late.residual_db > -3
    assert late.alignment.delay == 321
    assert late.alignment.gain == pytest.approx(0.5, abs=0.01)


def test_parts_are_summed_and_a_mixture_alone_gives_the_accompaniment(tmp_path):
    files = stems(0)
    parts = dict.fromkeys(("drums", "bass", "other"), files["accompaniment"] / 3)
    by_parts = measure(tmp_path / "parts", {"vocals": files["vocals"], **parts})
    total = files["vocals"] + files["accompaniment"]
    by_mixture = measure(tmp_path / "mixture", {"vocals": files["vocals"], "mixture": total})
    plain = measure(tmp_path / "plain", files)
    for report in (by_parts, by_mixture):
        assert report.voice_to_accompaniment_db == pytest.approx(plain.voice_to_accompaniment_db, abs=0.02)


def test_music_without_a_voice(tmp_path):
    report = measure(tmp_path, {"accompaniment": stems(0)["accompaniment"]})
    assert not report.active.any()
    assert report.voice_to_accompaniment_db is None
    assert report.stem_correlation is None
    assert len(report.fingerprints["vocals"].hashes) == 0
    np.testing.assert_array_equal(
        report.fingerprints["mixture"].hashes, report.fingerprints["accompaniment"].hashes
    )


def test_stems_of_other_rates_and_channels_are_brought_together(tmp_path):
    write_song(tmp_path / "song", {"vocals": tone(440, 2.0, 8000, 1)}, 8000)
    soundfile.write(tmp_path / "song" / "accompaniment.wav", tone(440, 2.0, 16_000, 2), 16_000)
    (song,) = find_songs(tmp_path).songs
    report = measure_song(song)
    assert report.stem_correlation == pytest.approx(1, abs=1e-2)
    assert {x: (y.rate, y.channels) for x, y in report.levels.items()} == {
        "vocals": (8000, 1),
        "accompaniment": (16_000, 2),
    }


def test_all_damaged_stems_are_named(tmp_path):
    write_song(tmp_path / "song", {x: tone(440, 1.0) for x in ("vocals", "drums", "bass", "other")})
    (tmp_path / "song" / "vocals.wav").write_bytes(b"rubbish")
    broken = tone(440, 1.0)
    broken[100] = np.nan
    soundfile.write(tmp_path / "song" / "bass.wav", broken, 8000, subtype="FLOAT")
    (song,) = find_songs(tmp_path).songs
    report = measure_song(song)
    assert report.damage.keys() == {"vocals", "bass"}
    assert "not readable as audio" in report.damage["vocals"]
    assert "not finite" in report.damage["bass"]
    assert report.levels.keys() == {"drums", "other"}
    assert not report.usable
    assert not report.fingerprints


@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
def test_a_sample_rate_that_cannot_be_right_is_damage(tmp_path, stem):
    write_song(tmp_path / "song", {x: tone(440, 1.0) for x in ("vocals", "accompaniment", "mixture")})
    soundfile.write(tmp_path / "song" / f"{stem}.wav", tone(440, 1.0), 2)
    (song,) = find_songs(tmp_path).songs
    assert measure_song(song).damage == {stem: "has a sample rate of 2 Hz, which is too low for music"}


def test_samples_that_are_too_large_are_damage(tmp_path):
    write_song(tmp_path / "song", {"vocals": tone(440, 1.0)})
    path = tmp_path / "song" / "accompaniment.wav"
    soundfile.write(path, tone(440, 1.0, level=1e24), 8000, subtype="FLOAT")
    (song,) = find_songs(tmp_path).songs
    report = measure_song(song)
    assert report.damage == {"accompaniment": "holds samples beyond 1e+10 times full scale"}
    assert report.levels.keys() == {"vocals"}


def test_the_seconds_that_were_read_are_told(tmp_path):
    write_song(tmp_path / "song", stems(0), SONG_RATE)
    (song,) = find_songs(tmp_path).songs
    told = []
    measure_song(song, told.append)
    assert sum(told) == pytest.approx(14)
    assert len(told) == 4
