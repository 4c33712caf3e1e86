import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import old_runs
from tests.small_network import small_config
from vocalsep_jax.runs.checkpoints import Checkpoints, has_checkpoint, save_model
from vocalsep_jax.runs.folder import RunError, config_path
from vocalsep_jax.runs.record import RunRecord, read_record, write_record
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host
from vocalsep_jax.training import start
from vocalsep_jax.training.step import Totals, TrainState
from vocalsep_jax.training.transfer import encoder_part

pytestmark = pytest.mark.usefixtures("_small_network")

SONGS = {"train": [("A", 100), ("B", 50)], "valid": [("C", 70)]}


def state(value, step=0):
    """A state all of whose arrays hold `value`; its network has an encoder and a decoder."""
    params = {name: {"kernel": jnp.full((2, 3), value)} for name in ("down1", "up1")}
    return TrainState(
        step=jnp.int32(step),
        params=params,
        batch_stats={"down1_norm": {"mean": jnp.full(3, value)}},
        opt_state={"moments": jnp.full(4, value)},
        totals=Totals.zero(),
    )


@pytest.fixture(scope="module")
def parallel():
    return DataParallel("pmap", jax.devices()[:2])


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def stop(run, config, value=5.0, kind="latest"):
    """Leave a run as one that was stopped after three steps."""
    write_record(run, RunRecord(config, SONGS))
    saved = state(value, step=3)
    with Checkpoints(run) as checkpoints:
        checkpoints.save(kind, 3, saved.variables, saved.rest, {"best_loss": 0.25})


def of_format(run, number):
    """Make a run's config.json one of an older format."""
    content = json.loads(config_path(run).read_text())
    old_runs.make_older(content, number)
    config_path(run).write_text(json.dumps(content))


class TestCheckResumable:
    """`check_resumable`."""

    def test_a_folder_without_checkpoints_may_hold_any_config(self, run):
        start.check_resumable(run, small_config())
        write_record(run, RunRecord(small_config(), {}))
        start.check_resumable(run, small_config(seed=1))

    def test_the_same_config_goes_on(self, run):
        stop(run, small_config())
        start.check_resumable(run, small_config())

    def test_what_changes_no_result_may_change(self, run):
        stop(run, small_config(init_from="a"))
        changes = {"name": "b", "data__root": "c", "max_minutes": 3.0, "parallel": "shard_map"}
        start.check_resumable(run, small_config(**changes))

    def test_another_config_is_refused_and_shown(self, run):
        stop(run, small_config())
        with pytest.raises(RunError) as error:
            start.check_resumable(run, small_config(optimizer__learning_rate=0.5, data__remix=0.0))
        assert f"{run}: holds a run with another config" in str(error.value)
        assert "(data.remix: 0.5 -> 0.0; optimizer.learning_rate: 0.001 -> 0.5)" in str(error.value)
        assert f"--config.init_from={run}" in str(error.value)

    def test_checkpoints_of_who_knows_what_are_refused(self, run):
        stop(run, small_config())
        config_path(run).unlink()
        with pytest.raises(RunError, match=r"checkpoints but no config\.json"):
            start.check_resumable(run, small_config())

    def test_a_run_of_the_fourth_format_goes_on(self, run):
        stop(run, small_config())
        of_format(run, 4)
        start.check_resumable(run, small_config())
        for changes in ({"data__width": 2.0}, {"target": "in_phase"}, {"valid__best_by": "last"}):
            with pytest.raises(RunError, match="holds a run with another config"):
                start.check_resumable(run, small_config(**changes))

    def test_of_older_formats_only_the_third_goes_on(self, run):
        stop(run, small_config())
        of_format(run, 3)
        start.check_resumable(run, small_config())
        with pytest.raises(RunError, match=r"data\.remix: 0\.5 -> 0\.25"):
            start.check_resumable(run, small_config(data__remix=0.25))
        content = json.loads(config_path(run).read_text())
        for number in (1, 2):
            config_path(run).write_text(json.dumps(content | {"format": number}))
            with pytest.raises(RunError, match=r"made by an older version.*init_from"):
                start.check_resumable(run, small_config())


class TestFindStart:
    """`find_start`."""

    @pytest.fixture
    def find(self, run, parallel):
        """What a run of a config starts from, whose fresh state holds ones."""

        def find(songs=SONGS, writes=True, **changes):
            fresh = parallel.replicate(state(1.0))
            with Checkpoints(run) as checkpoints:
                return start.find_start(
                    run, small_config(**changes), songs, fresh, checkpoints, parallel, writes=writes
                )

        return find

    def assert_holds(self, found, expected, parallel):
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.sharding == parallel.replicated

    def test_from_scratch_the_record_is_written(self, run, find, parallel, caplog):
        caplog.set_level("INFO")
        found = find(seed=9)
        assert (found.step, found.best_loss) == (0, None)
        self.assert_holds(found.state, state(1.0), parallel)
        assert read_record(run) == RunRecord(small_config(seed=9), SONGS)
        assert "weights: random (seed 9), encoder and decoder" in caplog.text
        assert "down1/kernel" in caplog.text  # the table of parameters

    def test_one_process_writes_for_all(self, run, find):
        find(writes=False)
        assert not config_path(run).exists()

    def test_an_encoder_comes_with_its_statistics_and_the_decoder_is_random(self, tmp_path, find, parallel):
        save_model(tmp_path, encoder_part(state(7.0).variables))
        found = find(init_encoder=str(tmp_path))
        assert (found.step, found.best_loss) == (0, None)
        expected = state(1.0)
        expected.params["down1"] = state(7.0).params["down1"]
        expected = expected.replace(batch_stats=state(7.0).batch_stats)
        self.assert_holds(found.state, expected, parallel)

    def test_a_warm_start_takes_weights_and_statistics_only(self, tmp_path, find, parallel, caplog):
        caplog.set_level("INFO")
        (tmp_path / "other").mkdir()
        stop(tmp_path / "other", small_config())
        found = find(init_from=str(tmp_path / "other"))
        assert (found.step, found.best_loss) == (0, None)
        expected = state(1.0).replace(params=state(5.0).params, batch_stats=state(5.0).batch_stats)
        self.assert_holds(found.state, expected, parallel)
        assert f"weights: from {tmp_path / 'other'}, step 3" in caplog.text

    @pytest.mark.parametrize(
        ("option", "message"), [("init_from", "of another network"), ("init_encoder", "network's sizes")]
    )
    def test_another_network_is_no_start_and_leaves_no_record(self, tmp_path, run, find, option, message):
        other = {"params": {"down1": {"kernel": jnp.ones((4, 4))}}, "batch_stats": {}}
        save_model(tmp_path, other)
        with pytest.raises(RunError, match=message):
            find(**{option: str(tmp_path)})
        assert not config_path(run).exists()

    @pytest.mark.parametrize("option", [{}, {"init_from": "/gone"}, {"init_encoder": "/gone"}])
    def test_a_checkpoint_of_its_own_goes_before_all_else(self, run, find, parallel, option):
        stop(run, small_config())
        before = config_path(run).read_bytes()
        found = find(**option)
        assert (found.step, found.best_loss) == (3, 0.25)
        self.assert_holds(found.state, state(5.0, step=3), parallel)
        assert config_path(run).read_bytes() == before

    def test_other_songs_are_refused(self, run, find):
        stop(run, small_config())
        for songs in ({**SONGS, "valid": [("C", 71)]}, {**SONGS, "train": [("A", 100)]}):
            with pytest.raises(RunError, match="was trained on other songs than these now holds"):
                find(songs)

    def test_a_best_checkpoint_without_a_latest_one_is_forgotten(self, run, find, parallel):
        """Of a run that was killed in between: it starts anew."""
        stop(run, small_config(), kind="best")
        found = find()
        self.assert_holds(found.state, state(1.0), parallel)
        assert not has_checkpoint(run)
        assert not list((run / "checkpoints" / "best").glob("[0-9]*"))


def test_what_is_saved_is_what_a_state_is(parallel):
    """A state is its variables and the rest: nothing is left out of a checkpoint, or in it twice."""
    whole = state(2.0, step=4)
    assert len(jax.tree.leaves((whole.variables, whole.rest))) == len(jax.tree.leaves(whole))
    again = state(0.0).replace(**whole.variables, **whole.rest)
    jax.tree.map(np.testing.assert_array_equal, to_host(parallel.replicate(again)), whole)
