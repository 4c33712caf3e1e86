import numpy as np
import pytest

from vocalsep_jax.data.songs import SPLITS
from vocalsep_jax.data.synth.song import builtin_library, generate
from vocalsep_jax.measures.metrics import usdr


@pytest.fixture(scope="module")
def song():
    return generate(0, "train", 0, 8.0)


def test_a_song_is_stereo_and_loud_enough_and_about_3_db_against_the_voice(song):
    assert song.vocals.shape == song.accompaniment.shape == (8 * 44_100, 2)
    assert 0.3 < np.abs(song.mixture).max() <= 0.95 + 1e-6
    assert -5 < usdr(song.vocals, song.mixture) < -1
    assert not np.allclose(song.accompaniment[:, 0], song.accompaniment[:, 1])


def test_the_same_numbers_give_the_same_song_and_others_another(song):
    again = generate(0, "train", 0, 8.0)
    np.testing.assert_array_equal(song.vocals, again.vocals)
    np.testing.assert_array_equal(song.accompaniment, again.accompaniment)
    for seed, split, index in ((1, "train", 0), (0, "valid", 0), (0, "train", 1)):
        other = generate(seed, split, index, 8.0)
        correlation = np.corrcoef(song.mixture[:, 0], other.mixture[:, 0])[0, 1]
        assert abs(correlation) < 0.3


def test_the_voice_is_harmonic_and_rests():
    vocals = generate(3, "train", 2, 20.0).vocals.mean(axis=1)
    frames = np.lib.stride_tricks.sliding_window_view(vocals, 4096)[::2048]
    power = (frames**2).mean(axis=1)
    assert (power < 1e-3 * power.max()).mean() > 0.03  # rests
    loud = frames[power > 0.3 * power.max()]
    periodicity = []
    for frame in loud:
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 8192)) ** 2)[:1000]
        periodicity.append(correlation[80:700].max() / correlation[0])  # 63 to 550 Hz
    assert np.median(periodicity) > 0.5


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_short_songs_and_other_rates(seconds):
    song = generate(0, "test", 0, seconds, rate=8000)
    assert abs(len(song.vocals) - seconds * 8000) <= 1
    assert np.isfinite(song.mixture).all()


def test_the_library_has_the_songs_asked_for():
    library = builtin_library(train_songs=3, valid_songs=2, test_songs=1, seconds=5, seed=0)
    assert [len(library.splits[s]) for s in SPLITS] == [3, 2, 1]
    names = [s.name for split in library.splits.values() for s in split]
    assert len(set(names)) == 6
    longer = builtin_library(train_songs=3, valid_songs=2, test_songs=1, seconds=6, seed=0)
    assert longer.fingerprint() != library.fingerprint()
