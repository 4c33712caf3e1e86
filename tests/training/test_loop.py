"""The loop over a run's steps, among parts that compute nothing and write nothing; and how it is called."""

import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_network import small_config
from vocalsep_jax.data.feed import Work
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.record import RunRecord, write_record
from vocalsep_jax.runtime.data_parallel import DataParallel
from vocalsep_jax.training import clock, loop
from vocalsep_jax.training.compiled import TrainingStep
from vocalsep_jax.training.interruption import Interruption
from vocalsep_jax.training.loop import ConfigError, Outcome, Training, TrainingDivergedError
from vocalsep_jax.training.monitoring import Monitor
from vocalsep_jax.training.optimizer import Phase, make_optimizer
from vocalsep_jax.training.plan import Plan
from vocalsep_jax.training.step import QUALITIES, Totals, TrainState

pytestmark = pytest.mark.usefixtures("_small_network")


PARAMS = {"down1": {"kernel": jnp.zeros(2)}, "up1": {"kernel": jnp.zeros(3)}}


class Parts:
    """The feed, the steps and the checkpoints of a training; they note what is asked of them, in order.

    Attributes:
      done: what was asked.
      interruption: what tells the training of signals; one comes in the step `interrupt_in`.
      nonfinite_step: the first step whose loss is not finite, 0 for none.
      losses: of the validations to come.
      scores: of the validation song, in dB, at those validations, where there is one.
    """

    def __init__(self, parallel):
        self.done = []
        self.interruption, self.interrupt_in = Interruption(), 0
        self.nonfinite_step = 0
        self.losses, self.scores = iter([0.5, 0.4]), iter([])
        self.parallel = parallel

    def take(self, state, step, number, first_bad):
        """A training step; each quality of it is 1."""
        self.done.append(f"step {step}")
        if step == self.interrupt_in:
            self.interruption.signal = signal.SIGTERM
        totals = state.totals.replace(
            steps=state.totals.steps + number,
            sums=jax.tree.map(jnp.add, state.totals.sums, dict.fromkeys(state.totals.sums, number)),
            nonfinite_step=first_bad,
        )
        return state.replace(step=state.step + number, totals=totals), number

    def training(self, first, last, until):
        """A feed's; a step at a time."""
        for step in range(first + 1, last + 1):
            assert step <= until(step - 1) <= last
            bad = 0 < self.nonfinite_step <= step
            shared = self.parallel.replicate((jnp.int32(1), jnp.int32(self.nonfinite_step if bad else -1)))
            yield Work(1, step, shared)

    def validation(self):
        """A feed's: four patches."""
        yield Work(1, "patches")

    def evaluate(self, variables, batch):
        """Sums over four patches."""
        assert variables.keys() == {"params", "batch_stats"}
        assert batch == "patches"
        loss = next(self.losses)
        return self.parallel.replicate(
            {"patches": jnp.float32(4)} | {n: jnp.float32(4 * loss) for n in QUALITIES}
        )

    def save(self, kind, step, model, training, facts):
        """A checkpoint's."""
        assert model.keys() == {"params", "batch_stats"}
        assert int(training["step"]) == step
        best = facts["best_loss"]
        self.done.append(f"save {kind} {step} {best if best is None else format(best, '.1f')}")

    def separate(self, predict):
        """A validation song's."""
        return "estimate"

    def score(self, estimate):
        """A validation song's."""
        assert estimate == "estimate"
        return {"sdr": next(self.scores), "sdr_mixture": -3.0, "sdr_silence": 0.0, "sdr_ideal": 9.0}

    def clips(self, estimate):
        """A validation song's."""
        return {}

    def wait(self):
        """A checkpoint's."""
        self.done.append("wait")


@pytest.fixture(scope="module")
def parallel():
    return DataParallel("pmap", jax.devices()[:1])


@pytest.fixture
def parts(parallel):
    return Parts(parallel)


@pytest.fixture
def training(tmp_path, parts, parallel):
    """A training of eight steps, in two epochs, by what its config is changed to and where it stands."""

    def make(step=0, best_loss=None, opt_state=(), **changes):
        state = TrainState(
            step=jnp.int32(step),
            params=PARAMS,
            batch_stats={},
            opt_state=opt_state,
            totals=Totals.zero(),
        )
        monitor = Monitor(tmp_path, writes=False, resume_step=0)
        record = monitor.record
        monitor.record = lambda *x: (parts.done.append(f"{x[0]} {x[1]}"), record(*x))
        monitor.figures = lambda step, _: parts.done.append(f"figures {step}")
        return Training(
            plan=Plan.of(small_config(**changes)),
            run=tmp_path,
            parallel=parallel,
            feed=parts,
            checkpoints=parts,
            monitor=monitor,
            train=TrainingStep(None, parts.take),
            evaluate=parts.evaluate,
            predict=None,
            state=parallel.replicate(state),
            step=step,
            best_loss=best_loss,
            probe=None,
            song=None,
            compiling=None,
        )

    return make


def test_all_is_done_when_it_is_due(training, parts):
    made = training()
    assert made.take_steps(parts.interruption, 0.0) == Outcome(8)
    assert parts.done == [
        "step 1", "step 2", "train 2",
        "step 3", "step 4", "train 4", "valid 4", "save best 4 0.5", "save latest 4 0.5", "figures 4",
        "step 5", "step 6", "train 6",
        "step 7", "step 8", "train 8", "valid 8", "save best 8 0.4", "save latest 8 0.4", "figures 8",
    ]  # fmt: skip


def test_what_is_recorded(training, parts):
    made = training(optimizer__warmup_steps=4)
    made.take_steps(parts.interruption, 0.0)
    lines = made.monitor.history
    trained, validated = lines[0], lines[-1]
    assert trained["loss"] == trained["dice"] == trained["grad_norm"] == 1  # means, not sums
    assert [line["steps"] for line in lines if line["kind"] == "train"] == [2] * 4
    assert trained["learning_rate"] == pytest.approx(0.001 / 4)  # of the last step
    assert trained["patches_per_second"] > 0
    assert 0 <= trained["data_wait_fraction"] <= 1
    assert validated["loss"] == pytest.approx(0.4)
    assert validated["train_loss"] == validated["train_soft_dice"] == 1
    assert [line["epoch"] for line in lines] == [0.5, 1, 1, 1.5, 2, 2]


def test_the_best_checkpoint_is_that_of_the_least_validation_loss(training, parts):
    parts.losses = iter([0.5, 0.6, 0.5, 0.3])
    training(epochs=4).take_steps(parts.interruption, 0.0)
    assert [x for x in parts.done if "save" in x] == [
        "save best 4 0.5", "save latest 4 0.5", "save latest 8 0.5",
        "save latest 12 0.5", "save best 16 0.3", "save latest 16 0.3",
    ]  # fmt: skip


def test_a_resumed_run_takes_the_steps_that_are_left_and_knows_the_best_loss(training, parts):
    assert training(step=5, best_loss=0.2).take_steps(parts.interruption, 0.0) == Outcome(8)
    assert parts.done == [
        "step 6", "train 6", "step 7", "step 8", "train 8", "valid 8", "save latest 8 0.2", "figures 8",
    ]  # fmt: skip
    parts.done.clear()
    assert training(step=8).take_steps(parts.interruption, 0.0) == Outcome(8)
    assert not parts.done


def test_a_signal_stops_after_the_step_under_way(training, parts, caplog):
    caplog.set_level("INFO")
    parts.interrupt_in = 3
    made = training(best_loss=0.2)
    assert made.take_steps(parts.interruption, 0.0) == Outcome(3, signal.SIGTERM)
    assert parts.done[-4:] == ["step 3", "save latest 3 0.2", "figures 3", "wait"]
    assert "stopped by SIGTERM at step 3, saved" in caplog.messages[-1]


def test_a_signal_in_the_last_step_stops_nothing(training, parts):
    parts.interrupt_in = 8
    assert training().take_steps(parts.interruption, 0.0) == Outcome(8)
    assert parts.done.count("save latest 8 0.4") == 1


@pytest.fixture
def minutes(monkeypatch):
    """Sets the clock."""
    clock = types.SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(loop, "time", clock)

    def set_clock(minutes):
        clock.monotonic = lambda: 60.0 * minutes

    return set_clock


def test_the_wall_clock_limit_counts_from_the_start_of_the_run(training, parts, minutes, caplog):
    caplog.set_level("INFO")
    made = training(max_minutes=5.0, best_loss=0.2)
    minutes(104.9)
    original = parts.take
    made.train = TrainingStep(None, lambda s, n, *x: (minutes(104.9 + n / 20), original(s, n, *x))[1])
    assert made.take_steps(parts.interruption, 100 * 60.0) == Outcome(2)
    assert "save latest 2 0.2" in parts.done
    assert "stopped by the wall-clock limit (max_minutes) at step 2" in caplog.messages[-1]


def test_checkpoints_come_by_time_and_by_steps_too(training, parts, minutes):
    made = training(checkpoint__every_minutes=2.0, checkpoint__every_steps=3, best_loss=0.2)
    original = parts.take
    made.train = TrainingStep(None, lambda s, n, *x: (minutes(n * 1.1), original(s, n, *x))[1])
    parts.losses = iter([0.9, 0.9])
    made.take_steps(parts.interruption, 0.0)
    # By steps at 3 and 6; by validation at 4 and 8; and two minutes after the one before, at 2.
    assert [x for x in parts.done if "save" in x] == [f"save latest {n} 0.2" for n in (2, 3, 4, 6, 8)]


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(training, parts):
    parts.nonfinite_step = 3
    with pytest.raises(TrainingDivergedError, match=r"not finite at step 3\b.*learning_rate"):
        training().take_steps(parts.interruption, 0.0)
    assert parts.done == ["step 1", "step 2", "train 2", "step 3", "step 4"]


def test_nor_is_it_saved_between_log_lines(training, parts):
    parts.nonfinite_step = 3
    with pytest.raises(TrainingDivergedError, match="not finite at step 3"):
        training(log_every_steps=4, checkpoint__every_steps=3).take_steps(parts.interruption, 0.0)
    assert parts.done == ["step 1", "step 2", "step 3"]


def test_a_frozen_encoder_is_set_free_at_the_change(training, parts, caplog):
    """With a step of its own, and averages of its own: those of the decoder go on."""
    caplog.set_level("INFO")
    wrapped = []
    parts.wrap_training = lambda step: (wrapped.append(parts.done[-1]), parts.take)[1]
    changes = {"freeze_encoder": "weights", "unfreeze_epoch": 1, "init_encoder": "encoder"}
    frozen = make_optimizer(small_config(**changes), Phase(0, True, False)).init({"up1": PARAMS["up1"]})
    made = training(opt_state=jax.tree.map(lambda x: x + 7, frozen), **changes)
    made.take_steps(parts.interruption, 0.0)
    assert wrapped == ["figures 4"]
    assert parts.done.index("step 5") == parts.done.index("figures 4") + 1
    assert "encoder: trained from step 4 on" in caplog.messages
    arrays = {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(made.state.opt_state)}
    values = {name: set(np.asarray(x).ravel().tolist()) for name, x in arrays.items()}
    assert sorted(n for n, x in values.items() if x == {7}) == sorted(n for n in values if "decoder" in n)
    assert sorted(n for n, x in values.items() if x == {0}) == sorted(n for n in values if "encoder" in n)
    assert sum("down1" in name for name in values) == sum("up1" in name for name in values) == 2


def best_of(training, parts, *, losses=(), scores=(), song=True, **changes):
    """The saves of a run of four validations, at steps 4, 8, 12 and 16."""
    parts.losses, parts.scores = iter(losses), iter(scores)
    made = training(epochs=4, **changes)
    made.song = parts if song else None
    made.monitor.audio = lambda *_: None
    made.take_steps(parts.interruption, 0.0)
    return [x.removeprefix("save best ") for x in parts.done if x.startswith("save best")]


class TestBest:
    """Which checkpoint is the best, by what the config says."""

    LOSSES, SCORES = (0.5, 0.4, 0.6, 0.4), (1.0, 0.5, 2.0, 2.0)

    def test_by_the_loss_it_is_the_first_of_the_least(self, training, parts):
        assert best_of(training, parts, losses=self.LOSSES, scores=self.SCORES) == ["4 0.5", "8 0.4"]

    def test_by_the_sdr_it_is_the_first_of_the_highest(self, training, parts):
        found = best_of(training, parts, losses=self.LOSSES, scores=self.SCORES, valid__best_by="sdr")
        assert found == ["4 -1.0", "12 -2.0"]

    def test_an_sdr_goes_on_from_the_one_before(self, training, parts):
        found = best_of(
            training, parts, losses=self.LOSSES, scores=self.SCORES, valid__best_by="sdr", best_loss=-1.5
        )
        assert found == ["12 -2.0"]

    def test_by_time_it_is_the_last(self, training, parts):
        found = best_of(training, parts, losses=self.LOSSES, scores=self.SCORES, valid__best_by="last")
        assert found == [f"{step} None" for step in (4, 8, 12, 16)]

    @pytest.mark.parametrize("measure", ["loss", "last"])
    def test_a_process_without_the_song_does_the_same(self, training, parts, measure):
        found = best_of(training, parts, losses=self.LOSSES, song=False, valid__best_by=measure)
        assert [x.split()[0] for x in found] == {"loss": ["4", "8"], "last": ["4", "8", "12", "16"]}[
            measure
        ]

    def test_by_the_sdr_all_processes_do_as_the_one_that_has_the_song(self, training, parts, monkeypatch):
        """It is told to the others, which have nothing to say, whatever they know of those before."""
        said, heard = iter([True, False, True, False]), []  # by that process, and by this one
        monkeypatch.setattr(loop, "any_process", lambda flag: (heard.append(flag), next(said))[1])
        made = training(valid__best_by="sdr")
        for best in (None, -1.5):
            made.best_loss = best
            assert [made._is_best({"loss": 0.5}) for _ in range(2)] == [True, False]
        assert heard == [False] * 4

    def test_by_the_sdr_the_process_that_has_the_song_says_so(self, training, parts, monkeypatch):
        heard = []
        monkeypatch.setattr(loop, "any_process", lambda flag: (heard.append(flag), flag)[1])
        made = training(valid__best_by="sdr")
        made.song = parts
        assert [made._is_best({"loss": 0.5, "sdr": x}) for x in (1.0, 0.5, 1.5)] == [True, False, True]
        assert heard == [True, False, True]
        assert made.best_loss == -1.5


def test_speed_is_that_of_training_alone(training, parts, monkeypatch):
    """Neither compiling nor validating counts."""
    now = [0.0]
    monkeypatch.setattr(clock, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def lasting(seconds, function):
        def call(*arguments):
            now[0] += 50.0 if parts.done == [] else seconds
            return function(*arguments)

        return call

    made = training()
    made.train = TrainingStep(None, lasting(2.0, parts.take))
    made.evaluate = lasting(100.0, parts.evaluate)
    made.take_steps(parts.interruption, 0.0)
    rates = [x["patches_per_second"] for x in made.monitor.history if x["kind"] == "train"]
    assert rates == pytest.approx([4.0] * 4)


def test_steps_are_compiled_before_the_first_is_taken(training, parts):
    made = training()
    made.compiling = types.SimpleNamespace(join=lambda: parts.done.append("join"))
    made.take_steps(parts.interruption, 0.0)
    assert parts.done[:2] == ["join", "step 1"]


class TestRefusals:
    """What `train_and_evaluate` does not start."""

    def test_a_workdir_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(RunError, match="cannot be made"):
            loop.train_and_evaluate(small_config(), tmp_path / "file" / "run")

    def test_a_batch_that_cannot_be_split(self, tmp_path):
        with pytest.raises(ConfigError, match="batch_size 12 cannot be split over 8 devices"):
            loop.train_and_evaluate(small_config(batch_size=12), tmp_path)

    def test_a_config_that_cannot_be(self, tmp_path):
        with pytest.raises(ConfigError, match="batch_size must be"):
            loop.train_and_evaluate({"batch_size": "8"}, tmp_path)

    def test_songs_that_are_not_there(self, tmp_path):
        with pytest.raises(SongError, match="no such folder"):
            loop.train_and_evaluate(small_config(data__root=str(tmp_path / "none")), tmp_path / "run")

    def test_songs_that_do_not_fit(self, tmp_path, monkeypatch):
        def open_songs(*_, **options):
            raise ValueError("200 GB of songs")

        monkeypatch.setattr(loop, "open_songs", open_songs)
        with pytest.raises(ConfigError, match="200 GB of songs"):
            loop.train_and_evaluate(small_config(), tmp_path)

    def test_a_folder_with_a_run_of_another_config(self, tmp_path):
        write_record(tmp_path, RunRecord(small_config(), {}))
        (tmp_path / "checkpoints" / "latest" / "3" / "model").mkdir(parents=True)
        with pytest.raises(RunError, match="another config"):
            loop.train_and_evaluate(small_config(seed=1), tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {"config.json", "checkpoints", ".lock"}
