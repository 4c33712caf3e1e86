"""What CONTRIBUTING.md says of adding one of each: one thing in one place, and all else follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_song
from vocalsep_jax import separate
from vocalsep_jax.audio import encoding, files
from vocalsep_jax.config import parse
from vocalsep_jax.data import augmentation, songs
from vocalsep_jax.data.augmentation import Augmentation, Draw, stem_gains
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.data.random_numbers import random_words, uniform
from vocalsep_jax.measures import losses, metrics
from vocalsep_jax.models import frontend, networks
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.training import figures
from vocalsep_jax.training.step import patch_qualities

TINY = {"audio": {"n_fft": 62, "hop": 21, "patch_frames": 32}, "model": {"width": 2, "depth": 5}}


def log_mse(estimate, target):
    return losses.mse(jnp.log1p(estimate), jnp.log1p(target))


def test_a_loss(monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "log_mse", log_mse)
    assert parse({"loss": "log_mse"}).loss == "log_mse"


def test_a_metric(monkeypatch, rng):
    def mask_error(mask, vocals, accompaniment):
        ideal = vocals / (vocals + accompaniment)
        return jnp.mean(jnp.abs(mask - ideal), axis=(1, 2))

    added = metrics.PatchMetric(mask_error, "Mean absolute error of the mask")
    monkeypatch.setitem(metrics.PATCH_METRICS, "mask_error", added)
    mask, vocals, other = rng.random((3, 2, 4, 4), np.float32)
    batch = Batch(vocals + other, vocals, other, np.ones(2, np.float32))
    found = patch_qualities(losses.mse, mask, batch)
    assert set(found) == {"loss", "dice", "soft_dice", "mask_error"}
    np.testing.assert_allclose(found["mask_error"], mask_error(mask, vocals, other))


def test_an_augmentation_of_gains(monkeypatch):
    class Switches(Augmentation):
        mute_left = 0.5

    first = Draw.COUNT

    def random_half(switches, words, gains, xp):
        """The left channel of a song silent."""
        silent = uniform(words(first)) < np.float32(switches.mute_left)
        return xp.where(silent[:, None, None], gains * np.array([0, 1], np.float32), gains)

    monkeypatch.setattr(Draw, "COUNT", first + 2)
    words = random_words(0, np.arange(200, dtype=np.uint32), Draw.COUNT)
    before = stem_gains(Augmentation(), words, np)
    monkeypatch.setattr(augmentation, "GAIN_CHANGES", (*augmentation.GAIN_CHANGES, random_half))
    after = stem_gains(Switches(), words, np)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[..., 1], old[..., 1])
        assert 60 < np.sum(new[:, 0, 0] == 0) < 140
    assert not np.array_equal(*after)  # each stem has draws of its own


def test_an_input_feature(monkeypatch, rng):
    def log1p_and_change(magnitude):
        x = frontend.log1p(magnitude)
        return jnp.concatenate([x, jnp.diff(x, axis=2, prepend=x[:, :, :1])], axis=-1)

    monkeypatch.setitem(frontend.INPUT_TRANSFORMS, "log1p_and_change", log1p_and_change)
    network = parse(TINY | {"input_transform": "log1p_and_change"}).network()
    x = jax.ShapeDtypeStruct((1, 32, 32), np.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), x)
    assert variables["params"]["down1"]["kernel"].shape == (4, 4, 2, 2)
    assert jax.eval_shape(network.apply, variables, x).shape == (1, 32, 32)


def test_a_network(monkeypatch):
    class Other(UNet):
        pass

    monkeypatch.setitem(networks.NETWORKS, "other", Other)
    assert type(parse(TINY | {"model": TINY["model"] | {"network": "other"}}).network()) is Other


def test_an_output_container(monkeypatch, run, tmp_path):
    added = encoding.Container({"int16": "PCM_16", "int24": "PCM_24"}, 1024, 2**31 - 1)
    monkeypatch.setitem(encoding.CONTAINERS, "aiff", added)
    song = write_song(tmp_path / "song", {"mix": tone(440, 1)}) / "mix.wav"
    out = tmp_path / "out"
    assert separate.main([str(song), "--checkpoint", str(run), "-o", str(out), "--aiff", "--int24"]) == 0
    written = soundfile.info(out / run.name / "mix" / "vocals.aiff")
    assert (written.format, written.subtype, written.frames) == ("AIFF", "PCM_24", 8000)
    with pytest.raises(ValueError, match="aiff files do not hold float32 samples"):
        encoding.Encoding("aiff", "float32")


def test_a_data_layout(monkeypatch, tmp_path):
    def voice_beside_band(entry):
        if not entry.name.endswith(".voice.wav"):
            return None
        name = entry.name.removesuffix(".voice.wav")
        band = entry.with_name(f"{name}.band.wav")
        return songs.Song(
            name, lambda rate: songs.Stems(files.read(entry)[0], files.read(band)[0]), fingerprint="1"
        )

    monkeypatch.setattr(songs, "LAYOUTS", (*songs.LAYOUTS, voice_beside_band))
    for part in ("voice", "band"):
        soundfile.write(tmp_path / f"A - B.{part}.wav", tone(440, 1), 8000)
    library = songs.find_library(tmp_path)
    assert [song.name for song in library.splits["train"]] == ["A - B"]
    assert library.splits["train"][0].load(8000).mixture.shape == (8000, 2)


def test_a_figure(monkeypatch, tmp_path):
    from vocalsep_jax.training import monitoring

    def mask_levels(snapshot):
        from matplotlib.figure import Figure

        return Figure()

    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES)
    for name in ("curves", "prediction"):  # what they draw is not the matter here
        monkeypatch.setitem(figures.FIGURES, name, mask_levels)
    monkeypatch.setitem(figures.FIGURES, "mask_levels", mask_levels)
    monkeypatch.setattr(monitoring, "_open_board", lambda folder: None)
    with monitoring.Monitor(tmp_path, writes=True, resume_step=0) as monitor:
        monitor.figures(1, lambda: None)
    assert (tmp_path / "figures" / "mask_levels.png").is_file()
