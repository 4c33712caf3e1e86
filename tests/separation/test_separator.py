import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import soundfile

from tests.conftest import tone
from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.separation import compiled_filter
from vocalsep_jax.separation.compiled_filter import VoiceProgram
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


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_batch_size(run, separator):
    x = tone(440, 1.0)
    other = Separator(run, batch_size=2).separate(x, 8000)["vocals"]
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
    patch = np.zeros((8, 32, 32), np.float32)
    patch[:2, :, :frames] = np.abs(spectrum)
    shapes = jax.eval_shape(model.init, jax.random.key(0), patch)
    variables, _ = restore_model(run, shapes)
    mask = np.asarray(jax.jit(model.apply)(variables, patch))[:2, :, :frames]
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_activations_of_another_dtype(run, separator):
    x = tone(440, 1.0)
    ours = separator.separate(x, 8000)["vocals"]
    rough = Separator(run, dtype="bfloat16").separate(x, 8000)["vocals"]
    assert 0 < np.abs(ours - rough).max() < 0.05


@pytest.mark.parametrize(("channels", "shifts"), [(1, 1), (2, 2), (3, 1)])
def test_in_one_program_it_is_the_same(run, rng, monkeypatch, channels, shifts):
    """As on accelerators, for one song after the other."""
    expected = Separator(run, shifts=shifts)
    monkeypatch.setattr(compiled_filter, "one_program_suits", lambda platform: True)
    separator = Separator(run, shifts=shifts)
    for samples in (500, 20_001):
        x = rng.uniform(-1, 1, (samples, channels)).astype(np.float32)
        ours, stems = separator.separate(x, 11_025), expected.separate(x, 11_025)
        for name in STEMS:
            np.testing.assert_allclose(ours[name], stems[name], atol=2e-6)
    assert len(separator._programs) == 1


def test_channels_that_do_not_fit_a_batch_are_not_separated_in_one_program(run, rng, monkeypatch):
    monkeypatch.setattr(compiled_filter, "one_program_suits", lambda platform: True)
    separator, x = Separator(run, batch_size=2), rng.uniform(-1, 1, (5000, 3)).astype(np.float32)
    np.testing.assert_allclose(
        separator.separate(x, 8000)["vocals"], Separator(run).separate(x, 8000)["vocals"], atol=2e-6
    )
    assert not separator._programs


def test_threads_share_one_program(run, monkeypatch):
    monkeypatch.setattr(compiled_filter, "one_program_suits", lambda platform: True)
    made = []

    def make(*arguments, **options):
        time.sleep(0.05)  # as long as it takes the others to come
        made.append(VoiceProgram(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(compiled_filter, "VoiceProgram", make)
    separator, together = Separator(run), threading.Barrier(4)

    def start(_):
        together.wait()
        return separator.latency(8000, 2)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(start, range(4)))) == 1
    assert len(made) == 1


def test_blocks_in_one_program_come_within_the_latency_that_is_stated(run, rng, monkeypatch):
    monkeypatch.setattr(compiled_filter, "one_program_suits", lambda platform: True)
    separator = Separator(run, batch_size=2)
    latency, came, went = separator.latency(8000, 2) * 8000, 0, 0

    def blocks():
        nonlocal came
        for _ in range(200):
            assert came - went <= latency
            came += 200
            yield rng.uniform(-1, 1, (200, 2)).astype(np.float32)

    for stems in separator.stream(blocks(), 8000):
        went += len(stems["vocals"])
    assert went == came


class TestFiles:
    """`separate_to` and `separate_file`; how files are written is `stem_files`'s business."""

    def test_the_stems_of_a_file_are_those_of_its_samples(self, separator, tmp_path):
        samples = tone(440, 1.0, 16_000)
        soundfile.write(tmp_path / "a.wav", samples, 16_000, "FLOAT")
        outputs = {name: tmp_path / f"{name}.wav" for name in STEMS}
        told = []
        done = separator.separate_to(
            tmp_path / "a.wav",
            outputs,
            encoding=Encoding("wav", "float32"),
            start=0.25,
            duration=0.5,
            progress=lambda *x: told.append(x),
        )
        assert (done.samples, done.sample_rate, done.channels) == (8000, 16_000, 2)
        assert told[-1] == (0.5, 0.5)
        expected = separator.separate(samples[4000:12_000], 16_000)
        for name in STEMS:
            np.testing.assert_allclose(files.read(outputs[name])[0], expected[name], atol=1e-6)

    def test_stems_that_are_louder_than_their_song(self, separator, tmp_path):
        """A mask keeps phases: some of a square wave's partials may go beyond its peak."""
        x = 1.5 * np.sign(tone(300, 1.0, level=1.0)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", x, 8000, "FLOAT")
        outputs = {name: tmp_path / f"{name}.wav" for name in STEMS}
        peak = max(np.abs(stem).max() for stem in separator.separate(x, 8000).values())
        assert separator.separate_to(tmp_path / "a.wav", outputs).clipped > 100
        done = separator.separate_to(tmp_path / "a.wav", outputs, clip_mode="rescale")
        assert done.scale == pytest.approx((1 - 2**-15) / peak, rel=1e-5)
        with pytest.raises(files.AudioError, match="goes beyond full scale"):
            separator.separate_to(tmp_path / "a.wav", outputs, clip_mode="none")

    def test_numbers_too_large_to_compute_with_name_the_file(self, separator, tmp_path):
        samples = np.full((3000, 1), 3e38) * np.sign(tone(440, 3000 / 8000, channels=1))
        soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
        with pytest.raises(files.AudioError, match=r"a\.wav: the waveform's values are too large"):
            separator.separate_file(tmp_path / "a.wav", tmp_path / "out")
        assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]

    def test_a_file_has_a_folder_of_its_own_below_the_model_s(self, separator, tmp_path):
        soundfile.write(tmp_path / "a.wav", tone(440, 0.2), 8000)
        found = separator.separate_file(tmp_path / "a.wav", tmp_path / "out")
        assert found["vocals"] == tmp_path / "out" / "tiny" / "a" / "vocals.wav"
        assert {p.name for p in (tmp_path / "out" / "tiny" / "a").iterdir()} == {
            "vocals.wav",
            "no_vocals.wav",
        }
        separator.separate_to(tmp_path / "a.wav", {"vocals": tmp_path / "v"})
        assert (tmp_path / "v").read_bytes() == found["vocals"].read_bytes()
        flac = separator.separate_file(tmp_path / "a.wav", tmp_path, encoding=Encoding("flac", "int24"))
        assert flac["no_vocals"] == tmp_path / "tiny" / "a" / "no_vocals.flac"
