import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from vocalsep_jax import audio
from vocalsep_jax.audio import AudioError


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_what_is_written_is_read(tmp_path, rng, channels, rate):
    samples = audio.quantise(rng.uniform(-1, 1, (500, channels)).astype(np.float32))
    audio.write_wav(tmp_path / "new" / "a.wav", samples, rate)
    back, back_rate = audio.read(tmp_path / "new" / "a.wav")
    assert back_rate == rate
    np.testing.assert_array_equal(back, samples)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_float_files_keep_values_above_full_scale(tmp_path):
    samples = np.array([[2.5], [-3.0]], np.float32)
    audio.write_wav(tmp_path / "a.wav", samples, 8000, "FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], samples)


def test_quantise_rounds_and_clips():
    values = np.array([0.0, 0.4 / 32768, 0.6 / 32768, 1.0, -1.0, 3.0], np.float32)
    expected = np.array([0, 0, 1, 32767, -32768, 32767]) / 32768
    np.testing.assert_array_equal(audio.quantise(values), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not readable as audio"), (b"text, not sound", "not readable"), (None, "no such file")],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "song.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as error:
        audio.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_no_samples_and_not_finite(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 8000)
    with pytest.raises(AudioError, match="holds no samples"):
        audio.read(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.array([0.0, np.inf]), 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        audio.read(tmp_path / "b.wav")
    with pytest.raises(AudioError, match="is not a file"):
        audio.read(tmp_path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write_wav(tmp_path / "file" / "a.wav", tone(440, 0.1), 8000)
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write_wav(tmp_path / "a.wav", tone(440, 0.1), 8000, "NOT_A_FORMAT")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_resampling_keeps_a_tone():
    up = audio.resample(tone(440, 1.0), 8000, 44_100)
    assert len(up) == 44_100
    np.testing.assert_allclose(up[5000:-5000], tone(440, 1.0, 44_100)[5000:-5000], atol=2e-3)
    same = tone(440, 0.1)
    assert audio.resample(same, 8000, 8000) is same


def test_fit_length():
    x = np.ones((5, 2), np.float32)
    assert audio.fit_length(x, 3).shape == (3, 2)
    np.testing.assert_array_equal(audio.fit_length(x, 7)[5:], 0)
