import jax
import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import Augmentation
from vocalsep_jax.data.crops import Crops, patches, read_crops
from vocalsep_jax.data.sampling import training_plan


def test_patches_are_the_magnitudes_of_the_stems_and_of_their_sum(rng):
    stft = Stft(62, 21)
    stems = rng.integers(-32_768, 32_767, (2, 4, 2, stft.samples(32)), np.int16, endpoint=True)
    gains = rng.random((2, 4, 2)).astype(np.float32) / 32_767
    weight = np.array([1, 1, 1, 0], np.float32)
    batch = jax.jit(lambda crops: patches(crops, stft))(Crops(*stems, *gains, weight))
    voice, other = stft.transform(np.einsum("kbcs,kbc->kbs", stems, gains).astype(np.float32))
    for ours, expected in zip(batch, (voice + other, voice, other, weight), strict=True):
        assert np.abs(ours - np.abs(expected)).max() < 1e-5 * np.abs(expected).max()


def test_the_crops_of_a_plan_are_those_of_the_store_with_the_songs_scales_in_their_gains(stores):
    store = stores["train"]
    switches = Augmentation("random", remix=0.5, gain_db=6.0)
    plan = training_plan(0, np.arange(20, dtype=np.uint32), store.table, 5000, switches)
    crops = read_crops(store, plan, 5000, np.arange(20))
    assert crops.weight.dtype == np.float32
    np.testing.assert_array_equal(crops.weight, np.arange(20))
    for n in range(20):
        for stem, part in (("vocals", "voice"), ("accompaniment", "other")):
            song, start, gains = (getattr(plan, f"{part}_{x}")[n] for x in ("song", "start", "gains"))
            expected = store.read(stem, int(song), int(start), 5000)
            np.testing.assert_array_equal(getattr(crops, stem)[n], expected)
            np.testing.assert_allclose(getattr(crops, f"{stem}_gains")[n], gains * store.scales[song])
