import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from tests.separation.split import outputs_in, separate, split
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding, quantise
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.separation.stem_files import STEMS, Separated, separate_to_files

FLOAT = Encoding("wav", "float32")


def read(outputs):
    return {name: files.read(path)[0] for name, path in outputs.items()}


def song(path, samples, rate=8000, subtype="FLOAT"):
    soundfile.write(path, samples, rate, subtype)
    return path


def stems_of(samples, share):
    (stems,) = split([samples.astype(np.float32)], 0, share)
    return stems


@pytest.mark.parametrize(("bits", "dtype"), [(16, "int16"), (24, "int32")])
def test_integer_stems_sum_to_the_song_exactly(tmp_path, rng, bits, dtype):
    path = song(tmp_path / "a.wav", rng.uniform(-0.9, 0.9, (60_000, 2)), 16_000, f"PCM_{bits}")
    outputs = outputs_in(tmp_path)
    done = separate(path, outputs, encoding=Encoding("wav", f"int{bits}"))
    assert done == Separated(60_000, 16_000, 2, 0, 1.0)
    assert done.seconds == 3.75
    shift = 8 if bits == 24 else 0
    stems = [soundfile.read(output, dtype=dtype)[0] >> shift for output in outputs.values()]
    np.testing.assert_array_equal(stems[0] + stems[1], soundfile.read(path, dtype=dtype)[0] >> shift)
    assert np.abs(stems[0]).max() > 100
    assert {soundfile.info(output).subtype for output in outputs.values()} == {f"PCM_{bits}"}
    assert {soundfile.info(output).samplerate for output in outputs.values()} == {16_000}


def test_float_stems_are_what_was_separated(tmp_path, rng):
    samples = rng.uniform(-2, 2, (9000, 3)).astype(np.float32)
    outputs = outputs_in(tmp_path)
    assert separate(song(tmp_path / "a.wav", samples), outputs, encoding=FLOAT).clipped == 0
    expected = stems_of(samples, 0.3)
    for name, stem in read(outputs).items():
        np.testing.assert_array_equal(stem, expected[name])


def test_some_of_the_stems_may_be_wanted(tmp_path):
    path = song(tmp_path / "a.wav", tone(440, 0.2))
    both, one = outputs_in(tmp_path / "both"), outputs_in(tmp_path / "one", stems=["no_vocals"])
    separate(path, both)
    separate(path, one)
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["no_vocals.wav"]
    assert one["no_vocals"].read_bytes() == both["no_vocals"].read_bytes()


def test_a_progress_callback_is_told_of_all_that_is_done(tmp_path):
    told = []
    path = song(tmp_path / "a.wav", tone(440, 20.0))
    separate(path, outputs_in(tmp_path), progress=lambda *x: told.append(x))
    assert told[0] == (0.0, 20.0)
    assert told[-1] == (20.0, 20.0)
    assert told == sorted(told)
    assert len(told) > 3


def test_it_is_told_before_anything_is_final(tmp_path):
    """So that an interruption is heeded while the beginning of a song is left out, say."""
    told = []
    path = tmp_path / "a.flac"  # in which one does not go to the start, but reads all before it
    soundfile.write(path, tone(440, 60), 8000)
    separate(path, outputs_in(tmp_path), start=59.9, progress=lambda *x: told.append(x))
    assert told[0] == (0.0, pytest.approx(0.1))
    assert len(told) > 3
    assert told[-1] == (pytest.approx(0.1), pytest.approx(0.1))


def test_what_it_raises_leaves_nothing(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    path = song(tmp_path / "a.wav", tone(440, 1.0))
    with pytest.raises(KeyboardInterrupt):
        separate(path, outputs_in(tmp_path / "out"), progress=stop)
    assert not list((tmp_path / "out").iterdir())


def test_neither_stem_has_its_name_before_both_are_complete(tmp_path, monkeypatch):
    """A disk that is full when the second file is closed takes the first too."""
    path = song(tmp_path / "a.wav", tone(440, 1.0))
    finish = files.Writer.finish

    def full(writer):
        if writer.path.name == "no_vocals.wav":
            raise AudioError(f"{writer.path}: cannot be written (No space left on device)")
        finish(writer)

    monkeypatch.setattr(files.Writer, "finish", full)
    for names in (STEMS, STEMS[::-1]):
        with pytest.raises(AudioError, match="No space left"):
            separate(path, outputs_in(tmp_path / "out", stems=names))
        assert not list((tmp_path / "out").iterdir())


def test_an_output_is_not_the_input(tmp_path):
    path = song(tmp_path / "vocals.wav", tone(440, 0.2))
    (tmp_path / "no_vocals.wav").symlink_to(path)
    before = path.read_bytes()
    for stem in STEMS:
        with pytest.raises(AudioError, match="would overwrite it"):
            separate(path, outputs_in(tmp_path, stems=[stem]))
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_one_stem_leaves_neither(tmp_path):
    (tmp_path / "vocals.wav").mkdir()
    with pytest.raises(AudioError, match=r"vocals\.wav: cannot be written \(is a folder\)"):
        separate(song(tmp_path / "a.wav", tone(440, 0.2)), outputs_in(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "vocals.wav"]


def test_what_cannot_be_separated_names_the_song_and_leaves_nothing(tmp_path):
    def refuse(blocks, rate):
        yield from split(blocks, rate)
        raise ValueError("too large")

    path = song(tmp_path / "a.wav", tone(440, 0.2))
    options = {"encoding": FLOAT, "clip_mode": "clamp", "start": 0, "duration": None, "progress": None}
    with pytest.raises(AudioError, match=r"a\.wav: too large"):
        separate_to_files(refuse, path, outputs_in(tmp_path / "out"), **options)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_damaged_halfway_leaves_nothing(tmp_path, rng):
    path = tmp_path / "a.flac"
    soundfile.write(path, rng.uniform(-1, 1, (40_000, 2)), 8000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.flac: not readable as audio"):
        separate(path, outputs_in(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_mode": "bend"}, "clip_mode must be one of clamp, rescale, none, not 'bend'"),
        ({"start": -1.0}, "no part of a song"),
        ({"start": float("nan")}, "no part of a song"),
        ({"duration": 0.0}, "no part of a song"),
        ({"duration": float("nan")}, "no part of a song"),
    ],
)
def test_options_that_are_out_of_range(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        separate(tmp_path / "a.wav", outputs_in(tmp_path), **options)


@pytest.mark.parametrize(("outputs", "message"), [({}, "no outputs"), ({"drums": "x"}, "not 'drums'")])
def test_outputs_that_are_none(tmp_path, outputs, message):
    with pytest.raises(ValueError, match=message):
        separate(tmp_path / "a.wav", outputs)


class TestParts:
    """`start` and `duration`."""

    @pytest.mark.parametrize(
        ("start", "duration"), [(0, 0.3), (0.25, 0.5), (0.5, None), (0.9, 5), (0, 1e308), (0, 1e-9)]
    )
    def test_a_part_of_a_song_is_that_part_alone(self, tmp_path, start, duration):
        x = quantise(tone(440, 1.0) * np.linspace(0.1, 1, 8000, dtype=np.float32)[:, None])
        outputs = outputs_in(tmp_path)
        path = song(tmp_path / "a.wav", x)
        done = separate(path, outputs, encoding=FLOAT, start=start, duration=duration)
        first = round(start * 8000)
        end = 8000 if duration is None else first + max(1, round(min(duration, 10) * 8000))
        part = x[first:end]
        assert done.samples == len(part)
        expected = stems_of(part, 0.3)
        for name, stem in read(outputs).items():
            np.testing.assert_array_equal(stem, expected[name])

    @pytest.mark.parametrize(("start", "shown"), [(1.5, r", before 1\.50 s"), (1.0, ""), (1e308, "")])
    def test_a_part_that_is_not_there(self, tmp_path, start, shown):
        path = song(tmp_path / "a.wav", tone(440, 1.0))
        with pytest.raises(AudioError, match=rf"a\.wav: ends after 1\.00 s{shown}"):
            separate(path, outputs_in(tmp_path / "out"), start=start)
        assert not list((tmp_path / "out").iterdir())


class TestClipping:
    """Stems that go beyond full scale: half as loud again as their song."""

    @pytest.fixture
    def loud(self, tmp_path, rng):
        """A song's file and its samples."""
        samples = rng.uniform(-0.95, 0.95, (90_000, 2)).astype(np.float32)
        return song(tmp_path / "a.wav", samples), samples

    def test_clamping_cuts_off_at_full_scale_and_counts(self, tmp_path, loud):
        path, samples = loud
        outputs = outputs_in(tmp_path)
        done = separate(path, outputs, share=1.5)
        expected = stems_of(samples, 1.5)
        beyond = sum(np.count_nonzero((x > 1 - 2**-16) | (x < -1 - 2**-16)) for x in expected.values())
        assert done.clipped == beyond > 100
        for name, stem in read(outputs).items():
            np.testing.assert_allclose(stem, np.clip(expected[name], -1, 1 - 2**-15), atol=2 * 2**-15)

    @pytest.mark.parametrize(
        "encoding",
        [Encoding(), Encoding("wav", "int24"), FLOAT, Encoding("flac"), Encoding("ogg", None)],
        ids=lambda e: f"{e.container} {e.sample or ''}",
    )
    def test_rescaling_multiplies_both_stems_by_one_factor(self, tmp_path, rng, encoding):
        for n in range(8):  # rounding may go either way
            samples = rng.uniform(-3, 3, (700, 1)).astype(np.float32)
            outputs = outputs_in(tmp_path, n)
            path = song(tmp_path / "a.wav", samples)
            done = separate(path, outputs, share=1.5, encoding=encoding, clip_mode="rescale")
            expected = stems_of(samples, 1.5)
            peak = max(np.abs(x).max() for x in expected.values())
            assert done.scale == pytest.approx(min(1.0, encoding.full_scale) / peak, rel=1e-5)
            assert done.clipped == 0
            if encoding.sample:
                written = read(outputs)
                assert max(np.abs(x).max() for x in written.values()) == pytest.approx(1, abs=2**-14)
                assert max(np.abs(x).max() for x in written.values()) <= 1
                for name in STEMS:
                    np.testing.assert_allclose(written[name], expected[name] * done.scale, atol=2 * 2**-15)
                np.testing.assert_allclose(sum(written.values()), samples * done.scale, atol=3 * 2**-16)

    def test_a_song_of_many_blocks_is_rescaled_as_a_whole(self, tmp_path, loud):
        path, samples = loud
        outputs = outputs_in(tmp_path)
        done = separate(path, outputs, share=1.5, encoding=FLOAT, clip_mode="rescale")
        expected = stems_of(samples, 1.5)
        for name, stem in read(outputs).items():
            np.testing.assert_array_equal(stem, expected[name] * np.float32(done.scale))

    def test_what_fits_is_left_as_it_is(self, tmp_path):
        path = song(tmp_path / "a.wav", tone(440, 0.5))
        rescaled, plain = outputs_in(tmp_path / "rescaled"), outputs_in(tmp_path / "plain")
        assert separate(path, rescaled, clip_mode="rescale").scale == 1.0
        separate(path, plain)
        for name in STEMS:
            assert rescaled[name].read_bytes() == plain[name].read_bytes()

    def test_refusing_to_clip(self, tmp_path, loud):
        path, _ = loud
        with pytest.raises(AudioError, match=r"a\.wav: vocals goes beyond full scale \(1\.4"):
            separate(path, outputs_in(tmp_path / "out"), share=1.5, clip_mode="none")
        assert not list((tmp_path / "out").iterdir())
        done = separate(path, outputs_in(tmp_path / "out"), share=1.5, encoding=FLOAT, clip_mode="none")
        assert done.clipped == 0

    @pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
    def test_a_disk_that_is_full_while_stems_wait_there_names_the_output(self, tmp_path, loud):
        import resource

        path, _ = loud
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(AudioError, match=r"vocals\.wav: cannot be written"):
                separate(path, outputs_in(tmp_path, stems=["vocals"]), clip_mode="rescale")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
