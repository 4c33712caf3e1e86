import numpy as np
import pytest

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data import sampling
from vocalsep_jax.data.augmentation import Augmentation
from vocalsep_jax.data.crops import patches
from vocalsep_jax.data.prepared import MemoryStore, whole_song
from vocalsep_jax.data.songs import find_library

pipeline = pytest.importorskip("vocalsep_jax.data.pipeline", reason="needs the train extra")

RECIPE = Stft(510, 172)
EVERYTHING = Augmentation("random", 0.5, 6.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from vocalsep_jax.data.synth.song import builtin_library
    from vocalsep_jax.data.tfds_songs import prepare

    library = builtin_library(train_songs=3, valid_songs=1, test_songs=0, seconds=6.0, seed=0)
    return prepare(library, 44_100, tmp_path_factory.mktemp("cache"))["train"]


def make(store, batch_size=4, process=0, count=1, stft_on="host"):
    return pipeline.PatchPipeline(store, RECIPE, 256, batch_size, process, count, stft_on)


def by_hand(store, plan, n):
    """Sample n of a plan through `Stft`, in NumPy."""
    waveforms = []
    for stem, part in (("vocals", "voice"), ("accompaniment", "other")):
        song, start = (int(getattr(plan, f"{part}_{f}")[n]) for f in ("song", "start"))
        crop = getattr(whole_song(store, song), stem)[start : start + 44_370]
        waveforms.append(RECIPE.transform(crop @ getattr(plan, f"{part}_gains")[n]))
    voice, other = waveforms
    return np.abs(voice + other), np.abs(voice), np.abs(other)


@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING], ids=["plain", "augmented"])
def test_patches_are_those_of_the_plan(store, augmentation):
    data = make(store)
    index = np.arange(20, 32, dtype=np.uint32)
    plan = sampling.training_plan(7, index, store.table, 44_370, augmentation)
    batches = list(data.training(7, augmentation, 5, 8))
    assert len(batches) == 3
    for n in range(12):
        batch = batches[n // 4]
        for ours, expected in zip(batch[:3], by_hand(store, plan, n), strict=True):
            assert ours.dtype == np.float32
            assert ours.shape == (4, 256, 256)
            assert np.abs(ours[n % 4] - expected).max() < 1e-5 * expected.max()
        np.testing.assert_array_equal(batch.weight, 1)


def test_crops_made_patches_on_the_device_are_the_hosts_patches(store):
    """From a store in memory, too."""
    on_host = make(store).training(7, EVERYTHING, 5, 8)
    on_device = make(MemoryStore.copy_of(store), stft_on="device").training(7, EVERYTHING, 5, 8)
    for batch, crops in zip(on_host, on_device, strict=True):
        assert crops.vocals.dtype == np.int16
        for ours, expected in zip(patches(crops, RECIPE), batch, strict=True):
            assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_stream_entered_later_is_the_same_stream(store):
    data = make(store)
    whole = list(data.training(1, EVERYTHING, 0, 4))
    rest = list(data.training(1, EVERYTHING, 2, 4))
    for a, b in zip(whole[2:], rest, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_processes_read_slices_of_the_same_batches(store):
    (whole,) = make(store).training(1, EVERYTHING, 3, 4)
    parts = [next(make(store, 4, p, 2).training(1, EVERYTHING, 3, 4)) for p in (0, 1)]
    for field, *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(field, np.concatenate(shares))
    with pytest.raises(ValueError, match="cannot be shared by 3 processes"):
        make(store, 4, 0, 3)


def test_validation_patches_are_fixed_and_the_last_batch_padded(store):
    first, second = (list(make(store).validation(10)) for _ in range(2))
    assert [b.weight.tolist() for b in first] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]
    plan = sampling.validation_plan(10, store.table, 44_370)
    for n in range(10):
        expected = by_hand(store, plan, n)
        assert np.abs(first[n // 4].vocals[n % 4] - expected[1]).max() < 1e-5 * expected[1].max()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.mixture, b.mixture)


def test_validation_on_several_processes_counts_each_patch_once(store):
    weights = [np.concatenate([b.weight for b in make(store, 4, p, 2).validation(5)]) for p in (0, 1)]
    assert sum(w.sum() for w in weights) == 5
    assert [len(w) for w in weights] == [4, 4]


def test_songs_shorter_than_a_patch_are_padded(song_root, tmp_path):
    from vocalsep_jax.data.tfds_songs import prepare

    stores = prepare(find_library(song_root), 8000, tmp_path)
    (batch,) = make(stores["train"]).training(0, Augmentation(), 0, 1)
    assert np.isfinite(batch.mixture).all()
    assert batch.mixture[:, :, :60].max() > 0.1
    assert batch.mixture[:, :, -10:].max() == 0  # 4 s at 8 kHz end before the patch does
