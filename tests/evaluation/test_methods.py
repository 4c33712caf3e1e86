from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax import __version__
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.songs import Song, Stems
from vocalsep_jax.evaluation import methods as methods_module
from vocalsep_jax.evaluation.full_scores import Scores, Window
from vocalsep_jax.evaluation.methods import (
    NAMES,
    QUICK_NAMES,
    SEPARATION,
    all_methods,
    checkpoint_method,
    content_hash,
    distinct_names,
    ideal_binary_mask,
)
from vocalsep_jax.evaluation.store import Store
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.separation.separator import Separator

STFT = Stft(62, 21)
SONG = Stems(tone(500, 1.0), tone(1500, 1.0))


def methods(*checkpoints):
    return {m.name: m for m in all_methods(checkpoints, STFT, 8000)}


def test_all_are_there_by_their_names():
    assert tuple(methods()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_gives_vocals_and_accompaniment_like_the_song(name):
    method = methods()[name]
    vocals = method.vocals(SONG, 8000)
    accompaniment = method.accompaniment(SONG, vocals)
    assert (vocals.shape, vocals.dtype) == (SONG.mixture.shape, np.float32)
    expected = SONG.mixture if name == "mixture" else SONG.mixture - vocals
    np.testing.assert_array_equal(accompaniment, expected)


def test_ideal_masks_part_tones_that_are_far_from_each_other():
    for name in ("ideal ratio mask", "ideal binary mask"):
        assert usdr(SONG.vocals, methods()[name].vocals(SONG, 8000)) > 12


def test_the_ideal_binary_mask_is_of_zeros_and_ones():
    mask = ideal_binary_mask(SONG.vocals, SONG.accompaniment, STFT)
    assert mask.shape == (2, STFT.bins, STFT.frames(8000))
    np.testing.assert_array_equal(np.unique(mask), [0, 1])
    assert ideal_binary_mask(0 * SONG.vocals, 0 * SONG.accompaniment, STFT).max() == 0


def test_masks_work_at_a_rate_of_their_own():
    """A tone of 1.5 kHz is beyond a mask of 2 kHz, and so not in its vocals."""
    low = {m.name: m for m in all_methods([], STFT, 2000)}["ideal ratio mask"]
    swapped = Stems(SONG.accompaniment, SONG.vocals)
    assert np.sum(low.vocals(swapped, 8000) ** 2) < 0.05 * np.sum(swapped.vocals**2)


def test_a_checkpoint_separates_the_mixture_or_the_accompaniment(run):
    separator = Separator(run)
    method = checkpoint_method("x", separator, {"overlap": 0.25})
    expected = separator.separate(SONG.mixture, 8000)["vocals"]
    np.testing.assert_allclose(method.vocals(SONG, 8000), expected, atol=1e-6)
    expected = separator.separate(SONG.accompaniment, 8000)["vocals"]
    np.testing.assert_allclose(method.taken_from_music(SONG, 8000), expected, atol=1e-6)
    code = {"separation": SEPARATION, "version": __version__}
    assert method.depends_on == {"checkpoint": content_hash(separator), "overlap": 0.25, **code}


def test_a_content_hash_is_of_what_is_computed(run):
    first, again = Separator(run), Separator(run, overlap=0.5)
    assert content_hash(first) == content_hash(again)
    assert content_hash(first) != content_hash(Separator(run, dtype="bfloat16"))
    params = dict(again.variables["params"])
    key = next(iter(params))
    again.variables = again.variables | {
        "params": params | {key: {k: x + 1 for k, x in params[key].items()}}
    }
    assert content_hash(first) != content_hash(again)


@pytest.mark.parametrize("changed", [("__version__", "9.9"), ("SEPARATION", SEPARATION + 1)])
def test_scores_do_not_outlive_the_code_that_made_them(changed, tmp_path, monkeypatch):
    monkeypatch.setattr(methods_module, "content_hash", lambda _: "same")
    kept = ("model", "ideal ratio mask", "ideal binary mask")
    song, store = Song("song", lambda rate: SONG, "same"), Store(tmp_path, 8000)
    window, scores = Window("best", 0, 1, 0.0), Scores({}, {}, [], [], [])

    def listed():
        found = methods(checkpoint_method("model", SimpleNamespace(step=1), {}))
        return [found[name] for name in kept]

    for method in listed():
        store.write(song, method, scores)
        store.write_clip(song, method, window, SONG.vocals)
    assert all(store.read(song, m) == scores and store.has_clip(song, m, window) for m in listed())
    monkeypatch.setattr(methods_module, *changed)
    assert not any(store.read(song, m) or store.has_clip(song, m, window) for m in listed())


def test_names_tell_checkpoints_apart(tmp_path):
    def names(*paths):
        return distinct_names([tmp_path / path for path in paths])

    assert names("a/x", "b/y") == ["x", "y"]
    assert names("a/x", "b/x", "b/y") == ["a/x", "b/x", "y"]
    assert names("mixture") == ["checkpoint mixture"]
    for name in (*NAMES, *QUICK_NAMES):
        assert names(name, "x") == [f"checkpoint {name}", "x"]
    assert names("ideal", "checkpoint ideal") == ["checkpoint checkpoint ideal", "checkpoint ideal"]
    assert names("x", "x leakage") == ["x", "checkpoint x leakage"]  # the first one's leakage
    assert names("caf\udce9\n") == ["caf\\udce9\\n"]
    assert names("\udce9", "\\udce9") == ["checkpoint \\udce9", "\\udce9"]
    with pytest.raises(ValueError, match="named twice"):
        names("a/x", "a/../a/x")
    assert distinct_names([Path("run")]) == ["run"]
