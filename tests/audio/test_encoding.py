import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from vocalsep_jax.audio.encoding import CONTAINERS, SAMPLE_FORMATS, Encoding, quantise


def written(path, samples, rate, encoding):
    """The file that libsndfile makes of an encoding."""
    options = encoding.options(rate, samples.shape[1])
    form = encoding.container.upper()
    soundfile.write(path, samples, rate, encoding.subtype, format=form, **options)
    return path.read_bytes()


def test_quantise_rounds_and_clips():
    values = np.array([0.0, 0.4 / 32768, 0.6 / 32768, 1.0, -1.0, 3.0], np.float32)
    expected = np.array([0, 0, 1, 32767, -32768, 32767]) / 32768
    np.testing.assert_array_equal(quantise(values), expected.astype(np.float32))
    np.testing.assert_array_equal(quantise(np.float32([3e38, -3e38])), np.float32([32767 / 32768, -1]))


@pytest.mark.parametrize("bits", [16, 24])
def test_quantised_samples_are_on_the_grid(rng, bits):
    x = quantise(rng.uniform(-1.1, 1.1, 1000).astype(np.float32), bits)
    steps = x.astype(np.float64) * 2 ** (bits - 1)
    np.testing.assert_array_equal(steps, np.round(steps))
    assert (steps.min(), steps.max()) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def test_full_scale_is_the_largest_sample_of_a_format():
    assert Encoding("wav", "int16").full_scale == 32767 / 32768
    assert Encoding("flac", "int24").full_scale == (2**23 - 1) / 2**23
    assert Encoding("mp3", None).full_scale == 1
    assert Encoding("wav", "float32").full_scale == np.inf


@pytest.mark.parametrize(
    ("container", "sample", "expected"),
    [
        (None, None, Encoding("wav", "int16")),
        ("wav", "float32", Encoding("wav", "float32")),
        (None, "int24", Encoding("wav", "int24")),
        ("flac", None, Encoding("flac", "int16")),
        ("ogg", None, Encoding("ogg", None)),
    ],
)
def test_what_is_not_chosen_is_the_default(container, sample, expected):
    assert Encoding.of(container, sample) == expected


@pytest.mark.parametrize(
    ("container", "sample", "message"),
    [
        ("aiff", "int16", "the container must be one of wav, flac, ogg, mp3, not 'aiff'"),
        ("aiff", None, "the container must be one of wav, flac, ogg, mp3, not 'aiff'"),
        ("flac", "float32", "flac files do not hold float32 samples; these do: wav"),
        ("mp3", "int16", "mp3 files do not hold int16 samples; these do: wav, flac"),
    ],
)
def test_encodings_that_do_not_exist(container, sample, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Encoding.of(container, sample)


def test_bit_rates_that_are_none():
    with pytest.raises(ValueError, match="wav files have no bit rate"):
        Encoding("wav", "int16", 128)
    with pytest.raises(ValueError, match="64 to 500 kbit/s, not 32"):
        Encoding("ogg", None, 32)
    with pytest.raises(ValueError, match="mp3 at 22050 Hz has 8 to 160 kbit/s, not 320"):
        Encoding("mp3", None, 320).options(22_050, 2)


def test_what_a_container_cannot_hold_is_refused_with_those_that_can():
    with pytest.raises(ValueError, match=r"^mp3 holds at most 2 channels and 48000 Hz, not 2 and 96000; "):
        Encoding("mp3", None).options(96_000, 2)
    with pytest.raises(ValueError, match=r"flac holds at most 8 channels .* these can: wav, ogg$"):
        Encoding("flac").options(48_000, 9)
    with pytest.raises(ValueError, match=r"not 2000 and 48000; these can: none$"):
        Encoding("ogg", None).options(48_000, 2000)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_written_with_every_sample_format_it_has(tmp_path, name):
    for sample in CONTAINERS[name].subtypes:
        encoding = Encoding(name, sample)
        written(tmp_path / "a", tone(440, 0.1, 44_100), 44_100, encoding)
        info = soundfile.info(tmp_path / "a")
        assert (info.format, info.subtype) == (name.upper(), encoding.subtype)
        assert sample in SAMPLE_FORMATS or CONTAINERS[name].bitrates


@pytest.mark.parametrize(
    ("rate", "bitrates"),
    [
        (44_100, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
        (22_050, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
        (8000, (8, 16, 24, 32, 40, 48, 56, 64)),
    ],
)
def test_mp3_has_the_bit_rate_asked_for(tmp_path, rate, bitrates):
    """As its frame headers tell (ISO 11172-3 and 13818-3: four bits index a table)."""
    for bitrate in (*bitrates, None):
        content = written(tmp_path / "a", tone(440, 0.3, rate), rate, Encoding("mp3", None, bitrate))
        assert content[0] == 0xFF
        assert (0, *bitrates)[content[2] >> 4] == (bitrate or bitrates[-1])


def test_ogg_has_about_the_bit_rate_asked_for(tmp_path, rng):
    x = (0.1 * rng.standard_normal((44_100 * 4, 2))).astype(np.float32)
    sizes = []
    for bitrate in (64, 128, None, 320, 500):
        content = written(tmp_path / "a", x, 44_100, Encoding("ogg", None, bitrate))
        sizes.append(len(content) * 8 / 4 / 1000)
    assert sizes == pytest.approx([64, 128, 192, 320, 500], rel=0.25)
