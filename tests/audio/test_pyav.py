"""Audio that libsndfile does not read."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tone, write_container
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import quantise
from vocalsep_jax.audio.files import AudioError

av = pytest.importorskip("av", reason="PyAV is not installed")


def closest_shift(x, y, most=3000):
    """Samples by which `y` is behind `x`, found by correlation."""
    wide = np.pad(x[:, 0], most)
    scores = np.correlate(wide, y[: len(x), 0], "valid")
    return most - int(np.argmax(scores))


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mov", "mkv", "aac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_aac_in_its_containers(tmp_path, rng, suffix, channels):
    """As long as what was encoded and in its place where the container tells the encoder's padding."""
    noise = np.convolve(rng.standard_normal(44_100), np.hanning(20), "same")[:, None] / 20
    x = np.repeat(noise, channels, axis=1).astype(np.float32)
    write_container(tmp_path / f"a.{suffix}", [x])
    y, rate = files.read(tmp_path / f"a.{suffix}")
    assert rate == 44_100
    with files.Reader(tmp_path / f"a.{suffix}") as reader:  # for progress, and RF64
        assert reader.frames == pytest.approx(len(y), rel=0.1 if suffix == "aac" else 0.05)
    assert y.shape[1] == channels
    assert y.dtype == np.float32
    if suffix in ("m4a", "mp4", "mov"):
        assert 0 <= len(y) - len(x) < 1024
        assert closest_shift(x, y) == 0
    shift = closest_shift(x, y)
    error = y[shift : shift + 40_000] - x[:40_000]
    assert np.sum(error**2) < 0.1 * np.sum(x[:40_000] ** 2)


def test_lossless_samples_come_back_exactly(tmp_path, rng):
    x = quantise(rng.uniform(-0.9, 0.9, (30_000, 2)).astype(np.float32))
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        block = np.ascontiguousarray((x * 32768).astype(np.int16).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    y, rate = files.read(tmp_path / "a.mkv")
    assert rate == 48_000
    np.testing.assert_array_equal(y, x)


def test_one_of_several_streams(tmp_path):
    streams = [tone(f, 0.5, 44_100) for f in (300, 1000, 3000)]
    write_container(tmp_path / "a.mp4", streams)
    with files.Reader(tmp_path / "a.mp4") as reader:
        assert reader.streams == 3
        assert abs(reader.frames - 22_050) < 2048
    for number, expected in enumerate((300, 1000, 3000)):
        y, rate = files.read(tmp_path / "a.mp4", number)
        spectrum = np.abs(np.fft.rfft(y[2000:20_000, 0] * np.hanning(18_000)))
        assert np.argmax(spectrum) * rate / 18_000 == pytest.approx(expected, abs=3)
    with pytest.raises(AudioError, match="no audio stream 3"):
        files.read(tmp_path / "a.mp4", 3)


def test_a_video_with_sound_and_one_without(tmp_path):
    for name, with_sound in (("sound.mp4", True), ("silent.mp4", False)):
        with av.open(str(tmp_path / name), "w") as container:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            sound = container.add_stream("aac", rate=44_100, layout="stereo") if with_sound else None
            for n in range(25):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), n, np.uint8))))
            container.mux(video.encode(None))
            if sound:
                x = tone(440, 1, 44_100)
                for first in range(0, 44_100, 1024):
                    block = np.ascontiguousarray(x[first : first + 1024].T)
                    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                    frame.sample_rate, frame.pts = 44_100, first
                    container.mux(sound.encode(frame))
                container.mux(sound.encode(None))
    y, _ = files.read(tmp_path / "sound.mp4")
    assert np.abs(y[5000:40_000]).max() == pytest.approx(0.3, abs=0.02)
    with pytest.raises(AudioError, match=r"silent\.mp4: not readable as audio \(no audio in it\)"):
        files.read(tmp_path / "silent.mp4")


@pytest.mark.parametrize("content", [b"", b"text, not sound\n" * 50, bytes(3000)])
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "a.m4a").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.m4a: not readable as audio") as error:
        files.read(tmp_path / "a.m4a")
    assert len(str(error.value).splitlines()) == 1


def test_what_is_cut_off_is_an_error_or_shorter(tmp_path):
    write_container(tmp_path / "a.m4a", [tone(440, 1, 44_100)])
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "b.m4a").write_bytes(content[: len(content) // 2])  # its index is at the end, and gone
    with pytest.raises(AudioError, match="not readable as audio"):
        files.read(tmp_path / "b.m4a")


def test_without_pyav_the_error_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"\.m4a needs PyAV: pip install 'vocalsep_jax\[av\]'"):
        files.read(tmp_path / "a.m4a")


def write(path, samples, layout, codec="flac", form="matroska", title=""):
    with av.open(str(path), "w", format=form) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=44_100, layout=layout)
        packed = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "flt", layout)
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6), ("6.1", 7), ("7.1", 8)]
)
def test_as_many_channels_as_there_are(tmp_path, rng, layout, channels):
    samples = rng.uniform(-0.5, 0.5, (9000, channels))
    write(tmp_path / "a.mkv", samples, layout)
    read, rate = files.read(tmp_path / "a.mkv")
    assert (read.shape, rate) == (samples.shape, 44_100)
    np.testing.assert_allclose(read, samples, atol=2.0**-15)


@pytest.mark.parametrize("name", ["Song: the remix.mkv", "http:a.mkv", "-d.mkv", "%d\n.mkv", "\udcff.mkv"])
def test_a_file_may_have_any_name(tmp_path, monkeypatch, rng, name):
    """A relative one, too: FFmpeg takes what is before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    write("a.mkv", rng.uniform(-0.5, 0.5, (500, 2)), "stereo")
    try:
        Path("a.mkv").rename(name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert len(files.read(name)[0]) == 500


def test_tags_may_be_of_any_encoding(tmp_path, rng):
    path = tmp_path / "a.m4a"
    write(path, rng.uniform(-0.5, 0.5, (5000, 2)), "stereo", "aac", "mp4", title="ABCDEFGH")
    content = path.read_bytes()
    assert b"ABCDEFGH" in content
    path.write_bytes(content.replace(b"ABCDEFGH", b"ABCDEF\xe9H"))
    assert len(files.read(path)[0]) >= 5000


def test_a_stream_that_the_header_does_not_tell_of_is_an_error(tmp_path, rng):
    def decoded():
        yield np.zeros((10, 2), np.float32)
        raise IndexError("list index out of range")  # what PyAV makes of it

    path = tmp_path / "a.mkv"
    write(path, rng.uniform(-0.5, 0.5, (500, 2)), "stereo")
    with files.Reader(path) as reader:
        reader._file._decoded = decoded()
        with pytest.raises(files.AudioError, match="not in its header"):
            list(reader.blocks())


def test_sound_of_an_unknown_kind_is_an_error(tmp_path, rng):
    path = tmp_path / "a.mkv"
    write(path, rng.uniform(-0.5, 0.5, (500, 2)), "stereo")
    content = path.read_bytes()
    assert content.count(b"A_FLAC") == 1
    path.write_bytes(content.replace(b"A_FLAC", b"A_NONE"))
    with pytest.raises(files.AudioError, match=r"a\.mkv: not readable as audio \(a sound of an unknown"):
        files.read(path)
