import io

import numpy as np
import pytest
import soundfile

Image = pytest.importorskip("PIL.Image")

from vocalsep_jax.web.spectrogram import HEIGHT, HIGHEST, LOWEST, RANGE_DB, WIDTH, picture, spectrogram


def row_of(frequency):
    return HEIGHT - 1 - int(HEIGHT * np.log(frequency / LOWEST) / np.log(HIGHEST / LOWEST))


@pytest.mark.parametrize(
    ("rate", "frequency"), [(44_100, 440.0), (8000, 1000.0), (48_000, 60.0), (44_100, 9000.0)]
)
def test_a_sine_is_a_line_of_its_level_at_its_frequency(tmp_path, rate, frequency):
    x = 0.1 * np.sin(2 * np.pi * frequency * np.arange(4 * rate) / rate)
    soundfile.write(tmp_path / "a.wav", x, rate, subtype="FLOAT")
    levels = spectrogram(tmp_path / "a.wav", 0, len(x))
    assert levels.shape == (HEIGHT, WIDTH)
    middle = levels[:, 10:-10]
    assert abs(int(middle.mean(1).argmax()) - row_of(frequency)) <= 1 + 10 * (frequency < 100)
    np.testing.assert_allclose(middle.max(0), -20, atol=1.5)  # between two bins a Hann window loses 1.4 dB


def test_a_part_and_what_follows_it(tmp_path):
    rate = 16_000
    x = np.zeros((6 * rate, 2), np.float32)
    x[3 * rate : 4 * rate, 1] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", x, rate)
    levels = spectrogram(tmp_path / "a.wav", 2 * rate, 8 * rate)
    loud = levels[row_of(1000)] > -20
    assert loud[WIDTH // 8 + 20 : WIDTH // 4 - 20].all()
    assert not loud[: WIDTH // 8 - 20].any()
    assert not loud[WIDTH // 4 + 20 :].any()


def test_a_song_shorter_than_a_window(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(10, 0.5), 44_100)
    assert np.isfinite(spectrogram(tmp_path / "a.wav", 0, 10)).all()


def test_pictures_are_brighter_where_it_is_louder():
    low, high = RANGE_DB
    levels = np.linspace(low - 20, high + 20, 50)[None].repeat(3, 0)
    image = np.asarray(Image.open(io.BytesIO(picture(levels))).convert("L"), int)
    assert image.shape == levels.shape
    assert (np.diff(image[0]) >= 0).all()
    assert image[0, 0] < 20
    assert image[0, -1] > 230
