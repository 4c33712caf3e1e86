import jax
import numpy as np
import pytest

from tests.data.small import EVERYTHING, RECIPE, STEREO, assert_same_patches
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import EQUALIZER_BENDS, Augmentation, equalizer_basis
from vocalsep_jax.data.crops import Batch, Crops, equalizer_curves, in_phase, patches, read_crops
from vocalsep_jax.data.sampling import training_plan

STFT = Stft(62, 21)
WEIGHT = np.array([1, 1, 1, 0], np.float32)

patches_of = jax.jit(lambda crops: patches(crops, STFT))


def random_crops(rng, channels=1, bends=0):
    """Four crops of noise, with gains and bends of all sorts."""
    stems = rng.integers(-32_768, 32_767, (2, 4, 2, STFT.samples(32)), np.int16, endpoint=True)
    gains = rng.uniform(-1, 1, (2, 4, channels, 2)).astype(np.float32) / 32_767
    curves = rng.uniform(-6, 6, (2, 4, bends)).astype(np.float32)
    return Crops(*stems, *gains, WEIGHT, *curves)


def by_hand(crops):
    """The spectra of vocals and accompaniment, `[B, K, F, T]`, in NumPy."""
    spectra = []
    for stem in ("vocals", "accompaniment"):
        x, gains, bends = (getattr(crops, f"{stem}{part}") for part in ("", "_gains", "_bends"))
        spectrum = STFT.transform(np.einsum("bcs,bkc->bks", x, gains).astype(np.float32))
        if bends.shape[1]:
            spectrum = spectrum * (10 ** (bends @ equalizer_basis(32) / 20))[:, None, :, None]
        spectra.append(spectrum)
    return spectra


@pytest.mark.parametrize("bends", [0, EQUALIZER_BENDS], ids=["flat", "bent"])
@pytest.mark.parametrize("channels", [1, 2])
def test_patches_are_the_magnitudes_of_the_stems_and_of_their_sum(rng, channels, bends):
    crops = random_crops(rng, channels, bends)
    voice, other = by_hand(crops)
    mixture = voice + other
    expected = Batch(*map(np.abs, (mixture, voice, other)), WEIGHT)
    last = (lambda x: x[:, 0]) if channels == 1 else (lambda x: np.moveaxis(x, 1, -1))
    expected = Batch(*(x if x is WEIGHT else last(x) for x in expected))
    batch = patches_of(crops)
    assert batch.mixture.shape == ((4, 32, 32) if channels == 1 else (4, 32, 32, 2))
    assert {x.dtype for x in batch} == {np.dtype(np.float32)}
    assert_same_patches(batch, expected)


def test_the_channels_of_a_stereo_patch_are_those_of_left_and_right_alone(rng):
    crops = random_crops(rng, 2, EQUALIZER_BENDS)
    both = patches_of(crops)
    for k in range(2):
        gains = (crops.vocals_gains[:, k : k + 1], crops.accompaniment_gains[:, k : k + 1])
        one = patches_of(crops._replace(vocals_gains=gains[0], accompaniment_gains=gains[1]))
        assert_same_patches(Batch(*(x if x.ndim == 1 else x[..., k] for x in both)), one, 1e-6)


class TestInPhase:
    """What of the vocals is in phase with the mixture: `Re(V X*) / |X|`."""

    def of(self, vocals, accompaniment):
        """Of two waveforms `[S]`, float."""
        stems = np.stack([vocals, accompaniment])[:, None, None] * [[[1], [1]]]  # mono on left and right
        gains = np.full((2, 1, 1, 2), 0.5 / 32_767, np.float32)
        stems, none = np.round(stems * 32_767).astype(np.int16), np.zeros((1, 0), np.float32)
        return patches_of(Crops(*stems, *gains, np.ones(1, np.float32), none, none))

    def tone(self, phase=0.0):
        """Of eight periods in a frame: of bin 8."""
        return 0.25 * np.cos(2 * np.pi * 8 * np.arange(STFT.samples(32)) / 62 + phase)

    def test_of_a_voice_alone_is_its_magnitude(self):
        batch = self.of(self.tone(), 0 * self.tone())
        np.testing.assert_allclose(in_phase(batch), batch.vocals, rtol=1e-5, atol=1e-7)
        assert batch.vocals[0, 8].min() > 3

    def test_of_music_alone_is_nought(self):
        batch = self.of(0 * self.tone(), self.tone())
        np.testing.assert_array_equal(in_phase(batch), 0)

    def test_of_silence_is_nought(self):
        np.testing.assert_array_equal(in_phase(self.of(0 * self.tone(), 0 * self.tone())), 0)

    @pytest.mark.parametrize("phase", [0.0, np.pi / 3, np.pi / 2, 2 * np.pi / 3, 0.9 * np.pi])
    def test_of_tones_as_loud_as_each_other_is_half_the_mixture(self, phase):
        """`|X| = 2 |V| cos(phase / 2)`, and V is `phase / 2` from X."""
        batch = self.of(self.tone(), self.tone(phase))
        half = np.cos(phase / 2)
        np.testing.assert_allclose(batch.mixture[0, 8], 2 * half * batch.vocals[0, 8], rtol=1e-3)
        np.testing.assert_allclose(in_phase(batch)[0, 8], half * batch.vocals[0, 8], rtol=1e-3)

    def test_of_a_voice_at_right_angles_to_the_mixture_is_nought(self):
        """Music that takes away the voice, and adds itself a quarter of a period later."""
        batch = self.of(self.tone(), self.tone(np.pi / 2) - self.tone())
        np.testing.assert_allclose(in_phase(batch)[0, 8] / batch.vocals[0, 8], 0, atol=1e-3)
        np.testing.assert_allclose(batch.mixture[0, 8], batch.vocals[0, 8], rtol=1e-3)

    def test_of_a_voice_that_is_drowned_by_its_opposite_is_below_nought(self):
        batch = self.of(self.tone(), -2 * self.tone())
        np.testing.assert_allclose(in_phase(batch)[0, 8], -batch.vocals[0, 8], rtol=1e-3)

    @pytest.mark.parametrize("channels", [1, 2])
    def test_is_what_the_spectra_say(self, rng, channels):
        crops = random_crops(rng, channels, EQUALIZER_BENDS)
        voice, other = (np.squeeze(np.moveaxis(x, 1, -1)) for x in by_hand(crops))
        common = np.real(voice * (voice + other).conj())
        batch = patches_of(crops)
        # Times the mixture: where that is next to nothing, rounding decides on its phase.
        ours = in_phase(batch) * batch.mixture
        np.testing.assert_allclose(ours, common, atol=1e-5 * np.abs(common).max())

    @pytest.mark.parametrize("channels", [1, 2])
    def test_is_no_more_than_the_voice_and_the_rest_is_of_the_music(self, rng, channels):
        crops = random_crops(rng, channels, EQUALIZER_BENDS)
        batch = patches_of(crops)
        assert (np.abs(in_phase(batch)) <= batch.vocals * (1 + 1e-5) + 1e-6).all()
        assert in_phase(batch).min() < -1e-3
        other = crops._replace(
            vocals=crops.accompaniment,
            vocals_gains=crops.accompaniment_gains,
            vocals_bends=crops.accompaniment_bends,
            accompaniment=crops.vocals,
            accompaniment_gains=crops.vocals_gains,
            accompaniment_bends=crops.vocals_bends,
        )
        # What is in phase of the two is the mixture.
        total = in_phase(batch) + in_phase(patches_of(other))
        np.testing.assert_allclose(total, batch.mixture, atol=1e-4 * np.max(batch.mixture))


class TestEqualizer:
    """Curves over frequency."""

    def test_a_curve_without_bends_is_flat(self):
        np.testing.assert_array_equal(equalizer_curves(np.zeros((3, EQUALIZER_BENDS), np.float32), 32), 1)

    def test_a_bend_is_as_many_decibels_as_it_says(self):
        bends = 6 * np.eye(EQUALIZER_BENDS, dtype=np.float32)
        curves = np.asarray(equalizer_curves(bends, 32))
        assert curves.shape == (EQUALIZER_BENDS, 32)
        np.testing.assert_allclose(20 * np.log10(curves), 6 * equalizer_basis(32), atol=1e-4)
        np.testing.assert_allclose(curves[:, 0], 10 ** (6 / 20), rtol=1e-5)

    def test_patches_of_flat_curves_are_those_of_none(self, rng):
        crops = random_crops(rng, 2)
        flat = np.zeros((4, EQUALIZER_BENDS), np.float32)
        bent = crops._replace(vocals_bends=flat, accompaniment_bends=flat)
        assert_same_patches(patches_of(bent), patches_of(crops), 1e-6)


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_the_crops_of_a_plan_are_those_of_the_store_with_the_songs_scales_in_their_gains(stores, switches):
    store = stores["train"]
    plan = training_plan(0, np.arange(20, dtype=np.uint32), store.table, 5000, switches)
    crops = read_crops(store, plan, 5000, np.arange(20))
    assert crops.weight.dtype == np.float32
    np.testing.assert_array_equal(crops.weight, np.arange(20))
    np.testing.assert_array_equal(crops.vocals_bends, plan.voice_bends)
    np.testing.assert_array_equal(crops.accompaniment_bends, plan.other_bends)
    for n in range(20):
        for stem, part in (("vocals", "voice"), ("accompaniment", "other")):
            song, start, gains = (getattr(plan, f"{part}_{x}")[n] for x in ("song", "start", "gains"))
            expected = store.read(stem, int(song), int(start), 5000)
            np.testing.assert_array_equal(getattr(crops, stem)[n], expected)
            np.testing.assert_allclose(getattr(crops, f"{stem}_gains")[n], gains * store.scales[song])


def test_a_crop_of_a_store_is_the_same_in_stereo_and_of_one_channel(stores):
    """Both channels of a stereo patch are those that are chosen alone."""

    def made(channels):
        store, index = stores["train"], np.arange(4, dtype=np.uint32)
        plan = training_plan(0, index, store.table, RECIPE.crop, Augmentation(channels, remix=0.5))
        return patches_of(read_crops(store, plan, RECIPE.crop, WEIGHT))

    stereo = made("stereo")
    for k, channel in enumerate(("left", "right")):
        one = Batch(*(x if x.ndim == 1 else x[..., k] for x in stereo))
        assert_same_patches(one, made(channel), 1e-6)
