import numpy as np
import pytest

from tests.data.small import EVERYTHING, STEREO, assert_same_patches
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data import sampling
from vocalsep_jax.data.augmentation import Augmentation, equalizer_basis
from vocalsep_jax.data.crops import Batch, patches
from vocalsep_jax.data.prepared import MemoryStore, whole_song
from vocalsep_jax.data.songs import find_library

pipeline = pytest.importorskip("vocalsep_jax.data.pipeline", reason="needs the train extra")

RECIPE = Stft(510, 172)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from vocalsep_jax.data.synth.song import builtin_library
    from vocalsep_jax.data.tfds_songs import prepare

    library = builtin_library(train_songs=3, valid_songs=1, test_songs=0, seconds=6.0, seed=0)
    return prepare(library, 44_100, tmp_path_factory.mktemp("cache"))["train"]


def make(store, batch_size=4, process=0, count=1, stft_on="host", augmentation=EVERYTHING):
    return pipeline.PatchPipeline(store, RECIPE, 256, batch_size, augmentation, process, count, stft_on)


def by_hand(store, plan, n):
    """Sample n of a plan through `Stft`, in NumPy: a batch of one, without a weight."""
    spectra = []
    for stem, part in (("vocals", "voice"), ("accompaniment", "other")):
        song, start = (int(getattr(plan, f"{part}_{f}")[n]) for f in ("song", "start"))
        crop = getattr(whole_song(store, song), stem)[start : start + 44_370]
        spectrum = RECIPE.transform(getattr(plan, f"{part}_gains")[n] @ crop.T)
        if len(bends := getattr(plan, f"{part}_bends")[n]):
            spectrum = spectrum * (10 ** (bends @ equalizer_basis(256) / 20))[:, None]
        spectra.append(np.moveaxis(spectrum, 0, -1))
    voice, other = (x[..., 0] if x.shape[-1] == 1 else x for x in spectra)
    mixture = voice + other
    return Batch(*(np.abs(x)[None] for x in (mixture, voice, other)), np.ones(1))


SWITCHES = pytest.mark.parametrize(
    "switches", [Augmentation(), EVERYTHING, STEREO], ids=["plain", "augmented", "stereo"]
)


def shape_of(switches):
    return (256, 256, 2) if switches.channels == "stereo" else (256, 256)


@SWITCHES
def test_patches_are_those_of_the_plan(store, switches):
    data = make(store, augmentation=switches)
    index = np.arange(20, 32, dtype=np.uint32)
    plan = sampling.training_plan(7, index, store.table, 44_370, switches)
    batches = list(data.training(7, 5, 8))
    assert len(batches) == 3
    for batch in batches:
        assert {x.dtype for x in batch} == {np.dtype(np.float32)}
        assert {x.shape for x in batch} == {(4,), (4, *shape_of(switches))}
        np.testing.assert_array_equal(batch.weight, 1)
    for n in range(12):
        ours = Batch(*(x[n % 4 : n % 4 + 1] for x in batches[n // 4]))
        assert_same_patches(ours, by_hand(store, plan, n))


@SWITCHES
def test_crops_made_patches_on_the_device_are_the_hosts_patches(store, switches):
    """From a store in memory, too."""
    on_host = make(store, augmentation=switches).training(7, 5, 8)
    in_memory = MemoryStore.copy_of(store)
    on_device = make(in_memory, stft_on="device", augmentation=switches).training(7, 5, 8)
    for batch, crops in zip(on_host, on_device, strict=True):
        assert crops.vocals.dtype == np.int16
        assert crops.vocals_gains.shape == (4, 2 if switches is STEREO else 1, 2)
        assert_same_patches(patches(crops, RECIPE), batch)


@SWITCHES
@pytest.mark.parametrize("stft_on", ["host", "device"])
def test_a_batch_of_silence_has_the_shapes_of_the_others(store, switches, stft_on):
    data = make(store, stft_on=stft_on, augmentation=switches)
    for ours, theirs in zip(data.empty_batch(), next(data.training(0, 0, 1)), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def test_a_stream_entered_later_is_the_same_stream(store):
    data = make(store)
    whole = list(data.training(1, 0, 4))
    rest = list(data.training(1, 2, 4))
    for a, b in zip(whole[2:], rest, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_processes_read_slices_of_the_same_batches(store):
    (whole,) = make(store).training(1, 3, 4)
    parts = [next(make(store, 4, p, 2).training(1, 3, 4)) for p in (0, 1)]
    for field, *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(field, np.concatenate(shares))
    with pytest.raises(ValueError, match="cannot be shared by 3 processes"):
        make(store, 4, 0, 3)


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_validation_patches_are_fixed_and_unchanged_and_the_last_batch_padded(store, switches):
    first, second = (list(make(store, augmentation=switches).validation(10)) for _ in range(2))
    assert [b.weight.tolist() for b in first] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]
    plain = Augmentation("stereo" if switches is STEREO else "mono")
    plan = sampling.validation_plan(10, store.table, 44_370, plain)
    for n in range(10):
        expected = by_hand(store, plan, n)
        assert_same_patches(
            Batch(*(x[n % 4 : n % 4 + 1] for x in first[n // 4]))._replace(weight=np.ones(1)), expected
        )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.mixture, b.mixture)


def test_validation_on_several_processes_counts_each_patch_once(store):
    weights = [np.concatenate([b.weight for b in make(store, 4, p, 2).validation(5)]) for p in (0, 1)]
    assert sum(w.sum() for w in weights) == 5
    assert [len(w) for w in weights] == [4, 4]


def test_songs_shorter_than_a_patch_are_padded(song_root, tmp_path):
    from vocalsep_jax.data.tfds_songs import prepare

    stores = prepare(find_library(song_root), 8000, tmp_path)
    (batch,) = make(stores["train"], augmentation=Augmentation()).training(0, 0, 1)
    assert np.isfinite(batch.mixture).all()
    assert batch.mixture[:, :, :60].max() > 0.1
    assert batch.mixture[:, :, -10:].max() == 0  # 4 s at 8 kHz end before the patch does
