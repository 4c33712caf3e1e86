"""`configs/musdb.py` on a folder shaped like MUSDB18-HQ, made of built-in songs; shrunk by flags."""

import numpy as np
import pytest
import soundfile

pytest.importorskip("ml_collections", reason="needs the train extra")

from configs import musdb
from tests.small_network import small_network
from vocalsep_jax.config import parse
from vocalsep_jax.data.songs import MUSDB_VALIDATION
from vocalsep_jax.data.synth.song import generate
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import read_record
from vocalsep_jax.training.loop import train_and_evaluate

RATE = 8000
SONGS = {"train": ["A - One", "B - Two", MUSDB_VALIDATION[0]], "test": ["C - Three"]}


@pytest.fixture(scope="module")
def musdb18_hq(tmp_path_factory):
    """`{train,test}/<Artist - Title>/{mixture,drums,bass,other,vocals}.wav`."""
    root = tmp_path_factory.mktemp("MUSDB18-HQ")
    for split, names in SONGS.items():
        for n, name in enumerate(names):
            song = generate(0, split, n, 4.0, RATE)
            folder = root / split / name
            folder.mkdir(parents=True)
            stems = {"mixture": song.mixture, "vocals": song.vocals}
            for share, stem in ((0.5, "drums"), (0.3, "bass"), (0.2, "other")):
                stems[stem] = np.float32(share) * song.accompaniment
            for stem, samples in stems.items():
                soundfile.write(folder / f"{stem}.wav", samples, RATE)
    return root


def test_it_is_what_it_says_it_is():
    config = parse(musdb.get_config())
    patches = config.epochs * config.patches_per_epoch
    assert (config.model.width, config.model.dtype) == (64, "bfloat16")
    assert f"{patches / 1e6:.2f} million patches" in musdb.__doc__
    petaflop = patches * 36e9 / 1e15
    assert f"are {petaflop:.0f} PFLOP" in musdb.__doc__
    assert f"takes {petaflop * 1e15 / 50e12 / 3600:.1f} hours" in musdb.__doc__


@pytest.mark.slow
def test_a_short_run_of_it(musdb18_hq, tmp_path):
    """On the training songs, validated on those that MUSDB18 names; test songs are left alone."""
    config = musdb.get_config()
    flags = {
        "data.root": str(musdb18_hq),
        "data.cache": str(tmp_path / "cache"),
        "audio.sample_rate": RATE,
        "audio.n_fft": 62,
        "audio.hop": 21,
        "audio.patch_frames": 32,
        "model.width": 2,
        "model.depth": 5,
        "batch_size": 8,
        "patches_per_epoch": 32,
        "epochs": 2,
        "optimizer.warmup_steps": 2,
        "valid.patches": 12,
        "valid.every_epochs": 1,
        "log_every_steps": 2,
    }
    config.update_from_flattened_dict(flags)
    with small_network():
        assert train_and_evaluate(config, tmp_path / "run").step == 8
    songs = {
        split: [name for name, _ in listed] for split, listed in read_record(tmp_path / "run").songs.items()
    }
    assert songs == {"train": ["A - One", "B - Two"], "valid": [MUSDB_VALIDATION[0]]}
    losses = [line["loss"] for line in read_history(tmp_path / "run")]
    assert losses
    assert np.isfinite(losses).all()
