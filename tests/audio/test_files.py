import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding, quantise
from vocalsep_jax.audio.files import AudioError

WAV = Encoding()


def write(path, samples, rate=8000, encoding=WAV):
    with files.Writer(path, rate, samples.shape[1], encoding, len(samples)) as file:
        for piece in np.array_split(samples, 3):
            file.write(piece)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_what_is_written_is_read(tmp_path, rng, channels, rate):
    samples = quantise(rng.uniform(-1, 1, (500, channels)).astype(np.float32))
    write(tmp_path / "new" / "a.wav", samples, rate)
    back, back_rate = files.read(tmp_path / "new" / "a.wav")
    assert back_rate == rate
    np.testing.assert_array_equal(back, samples)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_float_files_keep_values_above_full_scale(tmp_path):
    samples = np.array([[2.5], [-3.0]], np.float32)
    write(tmp_path / "a.wav", samples, encoding=Encoding("wav", "float32"))
    np.testing.assert_array_equal(files.read(tmp_path / "a.wav")[0], samples)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not readable as audio"), (b"text, not sound", "not readable"), (None, "no such file")],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "song.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as error:
        files.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_no_samples_and_not_finite(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 8000)
    with pytest.raises(AudioError, match="holds no samples"):
        files.read(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.array([0.0, np.inf]), 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        files.read(tmp_path / "b.wav")
    with pytest.raises(AudioError, match="is not a file"):
        files.read(tmp_path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AudioError, match="cannot be written"):
        write(tmp_path / "file" / "a.wav", tone(440, 0.1))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize(
    "encoding",
    [WAV, Encoding("flac"), Encoding("ogg", None), Encoding("mp3", None)],
    ids=lambda e: e.container,
)
def test_a_disk_that_is_full_at_the_last_bytes_is_noticed(tmp_path, rng, encoding):
    """What encoders write when they are closed; libsndfile does not say that it failed."""
    import resource

    samples = rng.uniform(-0.5, 0.5, (50_000, 2)).astype(np.float32)
    path = tmp_path / "a"
    write(path, samples, 44_100, encoding)
    size = path.stat().st_size
    path.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for missing in (100, 1000, size // 2, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, before[1]))
        try:
            with pytest.raises(AudioError, match="cannot be written"):
                write(path, samples, 44_100, encoding)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_an_output_is_found_before_writing(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with (
        pytest.raises(AudioError, match=r"a\.wav: cannot be written \(is a folder\)"),
        files.Writer(tmp_path / "a.wav", 8000, 1, WAV, 5),
    ):
        pytest.fail("started to write")


@pytest.mark.parametrize("name", ["a.raw", "no suffix", "bytes\udcff.wav", "x" * 200, "{a}\n.wav"])
def test_a_file_may_have_any_name(tmp_path, name):
    samples = quantise(tone(440, 0.1))
    try:
        write(tmp_path / name, samples)
    except AudioError:
        pytest.skip("this file system has no such names")
    np.testing.assert_array_equal(files.read(tmp_path / name)[0], samples)


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "a\nb\x1b[31m\u2028c\udcff.wav"])
def test_errors_are_one_line_whatever_the_name(tmp_path, name):
    with pytest.raises(AudioError) as error:
        files.Reader(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("encoding", "subtype", "error"),
    [
        (WAV, "PCM_16", 2.0**-16),
        (Encoding("wav", "int24"), "PCM_24", 2.0**-24),
        (Encoding("flac"), "PCM_16", 2.0**-16),
        (Encoding("flac", "int24"), "PCM_24", 2.0**-24),
        (Encoding("wav", "float32"), "FLOAT", 0),
        (Encoding("ogg", None), "VORBIS", 0.02),
        (Encoding("mp3", None), "MPEG_LAYER_III", 0.02),
    ],
)
def test_every_encoding(tmp_path, encoding, subtype, error):
    path = tmp_path / f"a.{encoding.container}"
    x = tone(440, 1.0, 44_100)
    write(path, x, 44_100, encoding)
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate) == (encoding.container.upper(), subtype, 44_100)
    y, _ = files.read(path)
    assert len(y) >= len(x)
    assert np.abs(y[2000 : len(x) - 2000] - x[2000:-2000]).max() <= error * 1.01


def test_what_a_container_cannot_hold_is_refused_with_those_that_can(tmp_path):
    with pytest.raises(AudioError, match=r"mp3 holds at most 2 channels and 48000 Hz.*can: wav, flac, ogg"):
        files.Writer(tmp_path / "a.mp3", 96_000, 2, Encoding("mp3", None), 10)
    with pytest.raises(AudioError, match=r"flac holds at most 8 channels.*can: wav, ogg"):
        files.Writer(tmp_path / "a.flac", 48_000, 9, Encoding("flac"), 10)


def test_beyond_four_gigabytes_wav_files_are_rf64(tmp_path):
    with files.Writer(tmp_path / "a.wav", 8000, 2, WAV, 2**31) as file:
        file.write(tone(440, 0.1))
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert len(files.read(tmp_path / "a.wav")[0]) == 800


def test_what_fails_halfway_leaves_nothing(tmp_path):
    def fail():
        with files.Writer(tmp_path / "a.wav", 8000, 2, WAV, 800) as file:
            file.write(tone(440, 0.1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_the_whole(tmp_path, rng, monkeypatch):
    x = quantise(rng.uniform(-1, 1, (1000, 2)).astype(np.float32))
    write(tmp_path / "a.wav", x)
    monkeypatch.setattr(files, "_BLOCK", 300)
    with files.Reader(tmp_path / "a.wav") as reader:
        assert (reader.rate, reader.channels, reader.frames) == (8000, 2, 1000)
        blocks = list(reader.blocks())
    assert [len(b) for b in blocks] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(blocks), x)


@pytest.mark.parametrize(
    "encoding",
    [WAV, Encoding("flac"), Encoding("ogg", None), Encoding("mp3", None)],
    ids=lambda e: e.container,
)
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_compressed_sound_goes_on_from_block_to_block(tmp_path, monkeypatch, encoding, rate):
    """MP3's frames hold bits of later ones; a seek between blocks would lose them."""
    monkeypatch.setattr(files, "_BLOCK", 5000)
    x = tone(300, 60_000 / rate, rate)
    write(tmp_path / "a", x, rate, encoding)
    y, _ = files.read(tmp_path / "a")
    assert len(y) >= len(x)
    assert np.abs(y[2000 : len(x) - 2000] - x[2000:-2000]).max() < 0.02
    whole, _ = soundfile.read(tmp_path / "a", dtype="float32")
    np.testing.assert_allclose(y, whole, atol=1e-6)


@pytest.mark.parametrize("container", ["ogg", "mp3"])
def test_lossy_encoders_survive_very_large_numbers(tmp_path, rng, container):
    samples = (1e9 * rng.uniform(-1, 1, (40_000, 2))).astype(np.float32)
    write(tmp_path / "a", samples, 8000, Encoding(container, None))
    assert len(files.read(tmp_path / "a")[0]) >= len(samples)


@pytest.mark.parametrize(
    ("encoding", "decoded"),
    [
        (Encoding("wav", "int16"), False),
        (Encoding("wav", "int24"), False),
        (Encoding("wav", "float32"), False),
        (Encoding("flac", "int16"), True),
    ],
)
def test_blocks_of_a_part(tmp_path, monkeypatch, rng, encoding, decoded):
    monkeypatch.setattr(files, "_BLOCK", 100)
    x = quantise(rng.uniform(-1, 1, (1000, 2)).astype(np.float32))
    path = tmp_path / "a"
    write(path, x, 8000, encoding)
    for start, count in ((0, 1), (0, 250), (99, 2), (100, 100), (730, None), (999, 50)):
        with files.Reader(path) as reader:
            parts = list(reader.blocks(start, count))
        part = np.concatenate(parts)
        np.testing.assert_array_equal(part, x[start : None if count is None else start + count])
        # What is left out is decoded, and gives empty blocks, only where one cannot go to any sample.
        assert any(not len(x) for x in parts) == (decoded and start >= 100)
    for start in (1000, 5000):
        with files.Reader(path) as reader, pytest.raises(AudioError, match=r"ends after 0\.12"):
            list(reader.blocks(start, 10))


def test_a_wav_file_is_rf64_where_it_has_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WAV_LIMIT", 2000)
    for samples, kind in ((500, b"RIFF"), (501, b"RF64")):
        write(tmp_path / "a.wav", tone(440, samples / 8000))
        assert (tmp_path / "a.wav").read_bytes()[:4] == kind
        assert soundfile.info(tmp_path / "a.wav").frames == samples
    (tmp_path / "a.wav").unlink()
    with (
        pytest.raises(AudioError, match="longer than its source's header says"),
        files.Writer(tmp_path / "a.wav", 8000, 2, WAV, 0) as file,
    ):
        file.write(tone(440, 501 / 8000))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x/A - B.wav", "A - B"),
        ("A.STEM.mp4", "A"),
        ("A.mp4", "A"),
        (".stem.mp4", ".stem"),
        ("a.b.c", "a.b"),
    ],
)
def test_track_names(path, name):
    assert files.track_name(path) == name
