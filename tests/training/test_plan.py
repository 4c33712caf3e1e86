import shutil

import pytest

from tests.conftest import tone, write_song
from tests.small_network import small_config
from vocalsep_jax.data.feed import Recipe
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.training.optimizer import Phase
from vocalsep_jax.training.plan import Plan, choose_songs
from vocalsep_jax.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("_small_network")


def test_a_plan_follows_from_the_config():
    config = small_config(
        epochs=5,
        seed=7,
        valid__every_epochs=2,
        checkpoint__every_steps=15,
        optimizer__schedule="cosine",
        optimizer__warmup_steps=4,
    )
    plan = Plan.of(config)
    assert plan.config is config
    assert plan.schedule == Schedule(
        steps_per_epoch=4, epochs=5, log_every=2, validate_every=2, checkpoint_every=15
    )
    assert plan.recipe == Recipe(7, config.stft, 32, 8, config.data, 12)
    assert plan.phases == (Phase(0, False, False),)
    rates = [float(plan.rate(step)) for step in (0, 2, 4, 12, 20)]
    assert rates == pytest.approx([0, 0.0005, 0.001, 0.0005, 0], abs=1e-9)


def test_the_phase_of_a_step_and_of_a_state():
    """A state after the last step of a phase is of that phase; the step that follows is of the next one."""
    plan = Plan.of(small_config(epochs=3, freeze_encoder="weights_and_statistics", unfreeze_epoch=2))
    frozen, free = plan.phases
    assert (frozen, free) == (Phase(0, True, True), Phase(8, False, False))
    assert [plan.phase(step) for step in (0, 7, 8, 11)] == [frozen, frozen, free, free]
    assert [plan.phase_of_state(step) for step in (0, 1, 8, 9, 12)] == [frozen] * 3 + [free] * 2


def test_songs_are_chosen_as_the_config_says(song_root, caplog):
    caplog.set_level("INFO")
    library = choose_songs(small_config(data__root=str(song_root), data__valid_names=["B - Two"]))
    names = {split: [song.name for song in library.splits[split]] for split in ("train", "valid")}
    assert names == {"train": ["A - One", "C - Three"], "valid": ["B - Two"]}
    assert caplog.messages[-1].startswith(f"{song_root}: 2 training songs; validation (")
    assert caplog.messages[-1].endswith("): B - Two")
    one = choose_songs(small_config(data__root=str(song_root), data__valid_songs=2))
    assert len(one.splits["valid"]) == 2


def test_built_in_songs_are_announced_loudly(caplog):
    library = choose_songs(
        small_config(seed=3, data__builtin={"train_songs": 3, "valid_songs": 2, "seconds": 4})
    )
    (line,) = [r for r in caplog.records if "NO SONGS GIVEN" in r.message]
    assert line.levelname == "WARNING"
    assert "--config.data.root" in line.message
    assert [len(library.splits[split]) for split in ("train", "valid", "test")] == [3, 2, 0]
    assert library.splits["train"][2].fingerprint.endswith(" 3 train 2 4")


def test_songs_at_other_speeds_and_music_without_a_voice_are_trained_on(song_root, tmp_path, caplog):
    caplog.set_level("INFO")
    write_song(tmp_path / "music" / "N - None", {"accompaniment": tone(150, 2)})
    library = choose_songs(
        small_config(
            data__root=str(song_root),
            data__valid_names=["B - Two"],
            data__instrumentals=str(tmp_path / "music"),
            data__speeds=[0.9, 1.1],
        )
    )
    usual = ["A - One", "C - Three", "N - None"]
    speeds = [f"{name} (speed {speed})" for speed in ("0.9", "1.1") for name in usual]
    assert [song.name for song in library.splits["train"]] == usual + speeds
    assert [song.name for song in library.splits["valid"]] == ["B - Two"]
    assert f"{song_root}: 9 training songs; validation (" in caplog.messages[-1]


def test_generated_songs_are_trained_on_beside_others(song_root):
    generated = {"beside": 2, "seconds": 4}
    options = {"data__root": str(song_root), "data__valid_names": ["B - Two"], "data__speeds": [1.1]}
    library = choose_songs(small_config(seed=3, data__builtin=generated, **options))
    usual = ["A - One", "C - Three", "Built-in - train 01", "Built-in - train 02"]
    assert [song.name for song in library.splits["train"]] == usual + [
        f"{name} (speed 1.1)" for name in usual
    ]
    assert library.splits["train"][3].fingerprint.endswith(" 3 train 1 4")
    assert [song.name for song in library.splits["valid"]] == ["B - Two"]
    (song_root / "train" / "C - Three").rename(song_root / "train" / "Built-in - train 02")
    with pytest.raises(SongError, match="a song called Built-in - train 02 already"):
        choose_songs(small_config(data__builtin=generated, **options))


@pytest.mark.parametrize("changes", [{"data__root": ""}, {"data__remix": 0.0}])
def test_music_without_a_voice_that_nothing_would_be_made_of_is_refused(song_root, changes):
    options = {"data__root": str(song_root), "data__instrumentals": "music", "data__remix": 0.5}
    with pytest.raises(SongError, match=r"needs data.root, and data.remix above 0"):
        choose_songs(small_config(**options | changes))


def test_songs_that_are_not_there(song_root, tmp_path):
    with pytest.raises(SongError, match="no such folder"):
        choose_songs(small_config(data__root=str(tmp_path / "none")))
    for name in ("A - One", "B - Two"):
        shutil.rmtree(song_root / "train" / name)
    with pytest.raises(SongError, match="at least two songs with a voice, one of them to validate on"):
        choose_songs(small_config(data__root=str(song_root)))
