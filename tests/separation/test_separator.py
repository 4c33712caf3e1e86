import sys

import jax
import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding, quantise
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.separation.separator import STEMS, Separator


@pytest.fixture(scope="module")
def separator(run):
    return Separator(run)


@pytest.mark.parametrize("rate", [8000, 11_025, 48_000])
@pytest.mark.parametrize(("samples", "channels"), [(1, 1), (2, 2), (61, 1), (700, 3), (9001, 2), (100, 8)])
def test_shape_stays_and_the_stems_sum_to_the_input(separator, rng, rate, samples, channels):
    x = rng.uniform(-1, 1, (samples, channels)).astype(np.float32)
    stems = separator.separate(x, rate)
    assert tuple(stems) == STEMS
    assert all(s.shape == x.shape and s.dtype == np.float32 for s in stems.values())
    assert all(np.isfinite(s).all() for s in stems.values())
    np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x, atol=1e-6)


def test_stems_come_in_blocks_as_they_become_final(separator, rng):
    x = rng.uniform(-1, 1, (30_000, 2)).astype(np.float32)
    came = 0

    def blocks():
        nonlocal came
        for block in np.array_split(x, 60):
            came += len(block)
            yield block

    seen = []
    for stems in separator.stream(blocks(), 8000):
        seen.append(stems)
        assert sum(len(s["vocals"]) for s in seen) <= came
    assert len(seen) > 10
    for name, expected in separator.separate(x, 8000).items():
        np.testing.assert_allclose(np.concatenate([s[name] for s in seen]), expected, atol=1e-6)
    assert list(separator.stream([], 8000)) == []
    with pytest.raises(ValueError, match="NaN or infinity"):
        list(separator.stream([x[:10], np.full((5, 2), np.nan, np.float32)], 8000))


def test_a_mono_vector_stays_one(separator):
    x = tone(440, 0.3)[:, 0]
    stems = separator.separate(x, 8000)
    assert stems["vocals"].shape == x.shape
    np.testing.assert_array_equal(stems["vocals"], separator.separate(x[:, None], 8000)["vocals"][:, 0])


def test_channels_are_separated_on_their_own(separator):
    left, right = tone(440, 0.5, channels=1), tone(1000, 0.5, channels=1)
    both = separator.separate(np.concatenate([left, right], axis=1), 8000)["vocals"]
    for n, x in enumerate((left, right)):
        alone = separator.separate(x, 8000)["vocals"][:, 0]
        np.testing.assert_allclose(both[:, n], alone, atol=1e-6)


def test_the_result_does_not_depend_on_the_batch_size(run, separator):
    x = tone(440, 1.0)
    other = Separator(run, batch_size=3).separate(x, 8000)["vocals"]
    np.testing.assert_allclose(separator.separate(x, 8000)["vocals"], other, atol=1e-6)


def test_the_mask_is_the_network_s(run, separator):
    """One patch, no overlap to average: what is written is network x mixture."""
    from vocalsep_jax.audio.stft import Stft
    from vocalsep_jax.runs.checkpoints import restore_model

    stft = Stft(62, 21)
    x = tone(700, 0.05)
    spectrum = stft.analyse(x)
    frames = spectrum.shape[-1]
    assert frames <= 32
    model = UNet(width=2, depth=5)
    patch = np.zeros((2, 32, 32), np.float32)
    patch[:, :, :frames] = np.abs(spectrum)
    shapes = jax.eval_shape(model.init, jax.random.key(0), patch)
    variables, _ = restore_model(run, shapes)
    mask = np.asarray(model.apply(variables, patch))[:, :, :frames]
    assert mask.std() > 0.01
    expected = stft.synthesise(spectrum * mask, len(x))
    np.testing.assert_allclose(separator.separate(x, 8000)["vocals"], expected, atol=1e-6)


def test_silence_gives_silence(separator):
    stems = separator.separate(np.zeros((5000, 2), np.float32), 8000)
    assert not stems["vocals"].any()
    assert not stems["no_vocals"].any()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 2)), "not empty"),
        (np.zeros((2, 2, 2)), r"\[S\] or \[S, C\]"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
    ],
)
def test_waveforms_that_are_none(separator, x, message):
    with pytest.raises(ValueError, match=message):
        separator.separate(x, 8000)


@pytest.mark.parametrize(
    "options", [{"overlap": 1.0}, {"batch_size": 0}, {"device": "abacus"}, {"shifts": 0}, {"dtype": "int8"}]
)
def test_impossible_options(run, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Separator(run, **options)


def test_float_stems_sum_to_the_input_within_an_ulp_of_the_larger(separator, rng):
    """One rounding in the difference and one in the sum."""
    x = (rng.uniform(-1, 1, (20_000, 2)) * 10.0 ** rng.uniform(-6, 1, (20_000, 1))).astype(np.float32)
    stems = separator.separate(x, 8000)
    vocals, rest = stems["vocals"], stems["no_vocals"]
    ulp = np.spacing(np.maximum(np.abs(vocals), np.abs(rest)))
    assert (np.abs(vocals.astype(np.float64) + rest - x) <= ulp).all()


def test_what_lies_above_the_model_s_band_is_no_voice(separator):
    """A model of 8 kHz knows nothing of 10 kHz: it all goes to the accompaniment, at full level."""
    high = tone(10_000, 1.0, 44_100)
    stems = separator.separate(high + tone(440, 1.0, 44_100), 44_100)
    inside = slice(5000, -5000)

    def level(x, frequency):
        window = np.hanning(len(x[inside]))
        turns = np.exp(-2j * np.pi * frequency / 44_100 * np.arange(len(window)))
        return 2 * abs(np.sum(x[inside, 0] * window * turns)) / window.sum()

    assert level(stems["vocals"], 10_000) < 3e-5
    assert level(stems["no_vocals"], 10_000) == pytest.approx(0.3, rel=1e-3)
    assert level(stems["vocals"], 440) > 0.01


def test_shifts_are_averaged(run, separator):
    x = tone(440, 1.0) + tone(1300, 1.0)
    one = separator.separate(x, 8000)["vocals"]
    two = Separator(run, shifts=2)
    np.testing.assert_array_equal(Separator(run, shifts=1).separate(x, 8000)["vocals"], one)
    step = round(32 * 0.75) * 21
    late = separator.separate(np.pad(x, ((step // 2, 0), (0, 0))), 8000)["vocals"][step // 2 :]
    found = two.separate(x, 8000)["vocals"]
    np.testing.assert_allclose(found[:-1000], (one + late)[:-1000] / 2, atol=1e-6)
    assert np.abs(found - one).max() > 1e-3


def test_blocks_come_within_the_latency_that_is_stated(run):
    live = Separator(run, batch_size=2, overlap=0.5)
    came, went = 0, 0

    def blocks():
        nonlocal came
        for _ in range(100):
            came += 500
            yield np.full((500, 2), 0.1, np.float32)

    for stems in live.stream(blocks(), 11_025):
        assert came - went <= live.latency(11_025, 2) * 11_025 + 500
        went += len(stems["vocals"])
    assert went == came


def test_blocks_are_copied_and_of_any_dtype(separator, rng):
    x = rng.uniform(-1, 1, (9000, 2))
    buffer = np.zeros((500, 2))

    def blocks():
        for start in range(0, 9000, 500):
            buffer[:] = x[start : start + 500]
            yield buffer

    for rate in (8000, 11_025):
        expected = separator.separate(x, rate)
        stems = list(separator.stream(blocks(), rate))
        for name in STEMS:
            ours = np.concatenate([part[name] for part in stems])
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, expected[name], atol=1e-6)


@pytest.mark.parametrize("second", [np.zeros(5), np.zeros((5, 1)), np.zeros((5, 0)), np.zeros((5, 2, 1))])
def test_blocks_of_other_shapes(separator, second):
    with pytest.raises(ValueError, match="all with the same C"):
        list(separator.stream([np.zeros((5, 2)), second], 8000))


def test_activations_of_another_dtype(run, separator):
    x = tone(440, 1.0)
    ours = separator.separate(x, 8000)["vocals"]
    rough = Separator(run, dtype="bfloat16").separate(x, 8000)["vocals"]
    assert 0 < np.abs(ours - rough).max() < 0.05


class TestFiles:
    """`separate_to` and `separate_file`."""

    def outputs(self, folder):
        return {name: folder / f"{name}.wav" for name in STEMS}

    def loud(self, path, rate=8000, level=1.0):
        """A song whose stems go beyond full scale, though it does not: a square wave."""
        x = level * np.sign(tone(300, 1.0, rate, level=1.0))
        soundfile.write(path, x, rate, "FLOAT")
        return x.astype(np.float32)

    def test_what_is_told_of_a_file(self, separator, tmp_path):
        soundfile.write(tmp_path / "a.wav", tone(440, 1.0, 16_000), 16_000)
        told = []
        done = separator.separate_to(
            tmp_path / "a.wav", self.outputs(tmp_path), progress=lambda *x: told.append(x)
        )
        assert (done.samples, done.sample_rate, done.channels) == (16_000, 16_000, 2)
        assert (done.seconds, done.clipped, done.scale) == (1.0, 0, 1.0)
        assert told[-1] == (1.0, 1.0)
        assert [seconds for seconds, _ in told] == sorted(seconds for seconds, _ in told)
        files = separator.separate_file(tmp_path / "a.wav", tmp_path / "out")
        assert files["vocals"] == tmp_path / "out" / "tiny" / "a" / "vocals.wav"
        for name, path in files.items():
            assert path.read_bytes() == (tmp_path / f"{name}.wav").read_bytes()

    def test_what_the_progress_callback_raises_leaves_nothing(self, separator, tmp_path):
        soundfile.write(tmp_path / "a.wav", tone(440, 1.0), 8000)

        def stop(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path / "out"), progress=stop)
        assert not list((tmp_path / "out").iterdir())

    def test_an_interruption_is_heeded_before_anything_is_final(self, separator, tmp_path):
        """While the beginning of a song is left out, say."""
        soundfile.write(tmp_path / "a.wav", tone(440, 60), 8000)
        told = []
        outputs = self.outputs(tmp_path)
        separator.separate_to(tmp_path / "a.wav", outputs, start=59.9, progress=lambda *x: told.append(x))
        assert told[0] == (0.0, pytest.approx(0.1))
        assert len(told) > 3
        assert told[-1] == (pytest.approx(0.1), pytest.approx(0.1))

    def test_neither_stem_has_its_name_before_both_are_complete(self, separator, tmp_path, monkeypatch):
        """A disk that is full when the second file is closed takes the first too."""
        soundfile.write(tmp_path / "a.wav", tone(440, 1.0), 8000)
        finish = files.Writer.finish

        def full(writer):
            if writer.path.name == "no_vocals.wav":
                raise files.AudioError(f"{writer.path}: cannot be written (No space left on device)")
            finish(writer)

        for late in (False, True):
            names = STEMS[::-1] if late else STEMS
            outputs = {name: tmp_path / "out" / f"{name}.wav" for name in names}
            with monkeypatch.context() as patch:
                patch.setattr(files.Writer, "finish", full)
                with pytest.raises(files.AudioError, match="No space left"):
                    separator.separate_to(tmp_path / "a.wav", outputs)
            assert not list((tmp_path / "out").iterdir())

    def test_an_output_is_not_the_input(self, separator, tmp_path):
        soundfile.write(tmp_path / "vocals.wav", tone(440, 0.2), 8000)
        before = (tmp_path / "vocals.wav").read_bytes()
        with pytest.raises(files.AudioError, match="would overwrite it"):
            separator.separate_to(tmp_path / "vocals.wav", self.outputs(tmp_path))
        with pytest.raises(ValueError, match="no outputs"):
            separator.separate_to(tmp_path / "vocals.wav", {})
        assert (tmp_path / "vocals.wav").read_bytes() == before

    @pytest.mark.parametrize(("start", "duration"), [(0, 0.3), (0.25, 0.5), (0.5, None), (0.9, 5)])
    def test_a_part_of_a_song_is_that_part_alone(self, separator, tmp_path, start, duration):
        x = quantise(tone(440, 1.0) * np.linspace(0.1, 1, 8000, dtype=np.float32)[:, None])
        soundfile.write(tmp_path / "a.wav", x, 8000)
        options = {"encoding": Encoding("wav", "float32"), "start": start, "duration": duration}
        done = separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path), **options)
        end = None if duration is None else round((start + duration) * 8000)
        part = x[round(start * 8000) : end]
        assert done.samples == len(part)
        expected = separator.separate(part, 8000)
        for name in STEMS:
            found, _ = files.read(tmp_path / f"{name}.wav")
            np.testing.assert_allclose(found, expected[name], atol=1e-6)

    def test_a_part_that_is_not_there(self, separator, tmp_path):
        soundfile.write(tmp_path / "a.wav", tone(440, 1.0), 8000)
        with pytest.raises(files.AudioError, match=r"ends after 1\.00 s, before 1\.50 s"):
            separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path / "out"), start=1.5)
        for options in ({"start": -1}, {"duration": 0}, {"start": float("nan")}):
            with pytest.raises(ValueError, match="no part of a song"):
                separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path / "out"), **options)
        assert not list((tmp_path / "out").iterdir())

    def test_clamping_cuts_off_at_full_scale_and_counts(self, separator, tmp_path):
        self.loud(tmp_path / "a.wav", level=1.5)
        done = separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path))
        stems = {name: files.read(path)[0] for name, path in self.outputs(tmp_path).items()}
        expected = separator.separate(self.loud(tmp_path / "b.wav", level=1.5), 8000)
        beyond = sum(np.count_nonzero((x > 1 - 2**-16) | (x < -1 - 2**-16)) for x in expected.values())
        assert done.clipped == beyond
        assert beyond > 100
        for name in STEMS:
            np.testing.assert_allclose(
                stems[name], np.clip(expected[name], -1, 1 - 2**-15), atol=2 * 2**-15
            )

    @pytest.mark.parametrize("sample", ["int16", "float32"])
    def test_rescaling_multiplies_both_stems_by_one_factor(self, separator, tmp_path, sample):
        x = self.loud(tmp_path / "a.wav", level=1.5)
        encoding = Encoding("wav", sample)
        done = separator.separate_to(
            tmp_path / "a.wav", self.outputs(tmp_path), encoding=encoding, clip_mode="rescale"
        )
        peak = max(np.abs(stem).max() for stem in separator.separate(x, 8000).values())
        assert done.scale == pytest.approx(min(1, encoding.full_scale) / peak, rel=1e-5)
        assert done.clipped == 0
        stems = [files.read(path)[0] for path in self.outputs(tmp_path).values()]
        np.testing.assert_allclose(stems[0] + stems[1], done.scale * x, atol=3 * 2**-16)
        assert max(np.abs(stem).max() for stem in stems) == pytest.approx(1.0, abs=2**-14)
        # What fits is left as it is.
        soundfile.write(tmp_path / "b.wav", tone(440, 0.5), 8000)
        assert (
            separator.separate_to(
                tmp_path / "b.wav", self.outputs(tmp_path / "b"), clip_mode="rescale"
            ).scale
            == 1.0
        )
        separator.separate_to(tmp_path / "b.wav", self.outputs(tmp_path / "c"))
        for name in STEMS:
            assert (tmp_path / "b" / f"{name}.wav").read_bytes() == (
                tmp_path / "c" / f"{name}.wav"
            ).read_bytes()

    def test_refusing_to_clip(self, separator, tmp_path):
        self.loud(tmp_path / "a.wav", level=1.5)
        with pytest.raises(files.AudioError, match="goes beyond full scale"):
            separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path / "out"), clip_mode="none")
        assert not list((tmp_path / "out").iterdir())
        encoding = Encoding("wav", "float32")
        done = separator.separate_to(
            tmp_path / "a.wav", self.outputs(tmp_path / "out"), encoding=encoding, clip_mode="none"
        )
        assert done.clipped == 0
        with pytest.raises(ValueError, match="clip_mode must be"):
            separator.separate_to(tmp_path / "a.wav", self.outputs(tmp_path / "out"), clip_mode="bend")


@pytest.fixture
def loud(tmp_path, rng):
    """A song whose stems go beyond full scale: its file and its samples."""
    samples = rng.uniform(-3, 3, (9000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", samples, 8000, "FLOAT")
    return tmp_path / "loud.wav", samples


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(),
        Encoding("wav", "int24"),
        Encoding("wav", "float32"),
        Encoding("ogg", None),
    ],
    ids=lambda e: e.sample or e.container,
)
def test_rescaled_stems_fit_by_one_factor(separator, tmp_path, rng, encoding):
    for n in range(8):  # rounding may go either way
        samples = rng.uniform(-3, 3, (700, 1)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
        outputs = {name: tmp_path / f"{name}{n}" for name in STEMS}
        done = separator.separate_to(tmp_path / "a.wav", outputs, encoding=encoding, clip_mode="rescale")
        expected = separator.separate(samples, 8000)
        peak = max(np.abs(x).max() for x in expected.values())
        assert done.scale == pytest.approx(min(1.0, encoding.full_scale) / peak, rel=1e-5)
        assert done.clipped == 0
        if encoding.sample:
            written = {name: files.read(path)[0] for name, path in outputs.items()}
            assert 0.999 < max(np.abs(x).max() for x in written.values()) <= 1
            for name in STEMS:
                np.testing.assert_allclose(written[name], expected[name] * done.scale, atol=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_is_full_while_stems_wait_there_names_the_output(separator, tmp_path, loud):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(files.AudioError, match=r"vocals\.wav: cannot be written"):
            separator.separate_to(loud[0], {"vocals": tmp_path / "vocals.wav"}, clip_mode="rescale")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["loud.wav"]
