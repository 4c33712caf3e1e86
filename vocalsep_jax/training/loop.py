"""Training: start a run, and take steps until the last, or until told to stop.

Every so many steps the run logs how it goes; every so many epochs it is validated; and now and then it is
saved, so that the same command goes on from there. `schedule` says what is due when.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vocalsep_jax.audio.masks import ratio_mask
from vocalsep_jax.config import ConfigError, parse
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.data.feed import Feed
from vocalsep_jax.data.placement import loudest_patch, open_songs
from vocalsep_jax.measures.metrics import PATCH_METRICS
from vocalsep_jax.runs import lock
from vocalsep_jax.runs.checkpoints import Checkpoints
from vocalsep_jax.runs.folder import RunError, one_line_errors
from vocalsep_jax.runtime.console import duration
from vocalsep_jax.runtime.data_parallel import CompiledStep, DataParallel, any_process, to_host
from vocalsep_jax.runtime.places import place
from vocalsep_jax.training.clock import Clock
from vocalsep_jax.training.compiled import (
    TrainingStep,
    compile_in_background,
    evaluation_step,
    network_alone,
    training_step,
)
from vocalsep_jax.training.figures import Snapshot, epoch_means
from vocalsep_jax.training.interruption import Interruption
from vocalsep_jax.training.monitoring import Monitor, Progress
from vocalsep_jax.training.optimizer import Phase, carry_over
from vocalsep_jax.training.plan import Plan, choose_songs
from vocalsep_jax.training.profiling import Profile
from vocalsep_jax.training.schedule import Due
from vocalsep_jax.training.start import check_resumable, find_start
from vocalsep_jax.training.step import QUALITIES, Totals, TrainState, create_state
from vocalsep_jax.training.validation import SONG_BATCH, ValidationSong, validate_patches
from vocalsep_jax.training.watchdog import Watchdog

log = logging.getLogger(__name__)

_IN_FLIGHT = 2
"""Calls of the step that are not finished; enough to keep a device busy, few enough to bound memory."""


class TrainingDivergedError(Exception):
    """The loss or a gradient is no longer finite; the message names the step."""


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
      step: steps taken in all.
      signal: number of the signal that stopped it, or 0.
    """

    step: int
    signal: int = 0


def train_and_evaluate(
    config: Any, workdir: str | Path, *, stall_seconds: float = 0, profile_calls: int = 0
) -> Outcome:
    """Train as `config` says, in `workdir`, going on where an earlier call stopped.

    Args:
      config: an ml_collections ConfigDict as `configs/base.py` gives, the same as nested dictionaries (as
        `config.json` of a run holds them), or a `vocalsep_jax.config.Config`.
      workdir: the run's folder; `docs/training.md` lists what it holds afterwards.
      stall_seconds: with several processes, end this one (exit code 1) if it has to wait for the others
        longer than that; 0 for any time.
      profile_calls: calls of the step that JAX' profiler traces into `profile/` of the run, on the first
        process.

    Returns:
      How it ended: at the last step, at the wall-clock limit, or by SIGTERM or Ctrl-C; in each case
      with the state saved.

    Raises:
      ConfigError, SongError, RunError: if it cannot start, or cannot be written; the message says what to
        change.
      TrainingDivergedError: at the first loss or gradient that is not finite.
    """
    begin = time.monotonic()
    with one_line_errors(workdir, "made"):
        run = place(workdir)
        run.mkdir(parents=True, exist_ok=True)
    watchdog = Watchdog(stall_seconds if jax.process_count() > 1 else 0)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock.held(run, writes=_writes()))
            training = start_training(Plan.of(parse(config)), run, stack)
            profile = Profile(run / "profile", profile_calls if _writes() else 0)
            with Interruption() as interruption, watchdog, profile:
                return training.take_steps(interruption, begin, (watchdog.called, profile.called))
    except OSError as error:  # the disk is full, or the folder gone
        raise RunError(f"{error.filename or run}: {error.strerror or error}") from error


def _writes() -> bool:
    """Whether this process writes what all share."""
    return jax.process_index() == 0


def start_training(plan: Plan, run: Path, stack: contextlib.ExitStack) -> Training:
    """Open all that a run needs, and find what it starts from.

    Args:
      plan: of the run.
      run: its folder.
      stack: closes its checkpoints and records.

    Raises:
      ConfigError, SongError, RunError: if it cannot start.
    """
    config, writes = plan.config, _writes()
    check_resumable(run, config)
    try:
        parallel = DataParallel(config.parallel)
        parallel.check_batch_size(config.batch_size)
        library = choose_songs(config)
        songs = open_songs(
            library,
            plan.recipe,
            parallel,
            sample_rate=config.audio.sample_rate,
            placement=config.data.placement,
            stft_on=config.data.stft_on,
            cache=config.data.cache,
            steps_per_dispatch=config.steps_per_dispatch,
        )
    except ValueError as error:  # what the config asks for and these devices, or this memory, do not allow
        raise ConfigError(str(error)) from error
    checkpoints = stack.enter_context(Checkpoints(run))
    phase = plan.phase_of_state(checkpoints.latest_step() or 0)
    _tell(phase, plan)
    step = training_step(config, phase, songs.feed)
    fresh = create_state(
        config.network(),
        step.optimizer,
        config.seed,
        config.network_input,
        freeze_encoder=phase.freeze_encoder,
    )
    start = find_start(
        run, config, songs.lengths, parallel.replicate(fresh), checkpoints, parallel, writes=writes
    )
    evaluate = evaluation_step(config, songs.feed)
    compiling = None
    if start.step < config.last_step:  # while records are opened and validation is prepared
        compiling = compile_in_background(
            [
                (step.run, start.state, songs.feed.example("train")),
                (evaluate, start.state.variables, songs.feed.example("valid")),
            ]
        )
    return Training(
        plan=plan,
        run=run,
        parallel=parallel,
        feed=songs.feed,
        checkpoints=checkpoints,
        monitor=stack.enter_context(Monitor(run, writes=writes, resume_step=start.step)),
        train=step,
        evaluate=evaluate,
        predict=network_alone(config),
        state=start.state,
        step=start.step,
        best_loss=start.best_loss,
        probe=loudest_patch(songs.valid, plan.recipe),
        song=ValidationSong.load(library.splits["valid"][0], config) if writes else None,
        compiling=compiling,
    )


@dataclass
class Training:
    """A run under way: its parts, and how far it has come.

    Attributes:
      plan: what it does, and when.
      run: its folder.
      parallel: the devices.
      feed: what it takes its patches from.
      checkpoints, monitor: write what it leaves.
      train: the training step of the present phase.
      evaluate: the evaluation step.
      predict: the network alone, on one device.
      state: all that training changes.
      step: steps taken.
      best_loss: the least validation loss so far; where the best is chosen by the song's uSDR, minus the
        highest.
      probe: the validation patch that figures show: a batch of one.
      song: the validation song, on the process that writes.
      compiling: the thread that compiles the steps, if there are any to take.
    """

    plan: Plan
    run: Path
    parallel: DataParallel
    feed: Feed
    checkpoints: Checkpoints
    monitor: Monitor
    train: TrainingStep
    evaluate: CompiledStep
    predict: Any
    state: TrainState
    step: int
    best_loss: float | None
    probe: Batch
    song: ValidationSong | None
    compiling: threading.Thread | None

    def __post_init__(self) -> None:
        self._saved_at = time.monotonic()

    def take_steps(
        self, interruption: Interruption, begin: float, observers: Sequence[Callable[[Any], None]] = ()
    ) -> Outcome:
        """Take steps until the last, or until told to stop.

        Args:
          interruption: tells of signals.
          begin: when the run was started, by `time.monotonic`; its wall-clock limit counts from there.
          observers: are given what each call of the step returns, at once.
        """
        schedule, last = self.plan.schedule, self.plan.schedule.last_step
        clock = Clock()
        changes = {phase.first_step: phase for phase in self.plan.phases[1:]}
        starts = {self.step, *changes}  # steps at which something is compiled, and waited for

        def until(step: int) -> int:
            return step + 1 if step in starts else schedule.next_due(step)

        in_flight: deque[Any] = deque()
        first = True  # of this call, or of a phase
        for work in clock.waiting(self.feed.training(self.step, last, until)):
            if self.compiling is not None:
                self.compiling.join()
            if self.step in changes:
                self._change_over(changes[self.step])
                first = True
            with jax.transfer_guard("disallow"):  # all that a step needs is on the devices already
                self.state, loss = self.train.run(self.state, work.batch, *work.shared)
            self.step += work.steps
            for observer in observers:
                observer(loss)
            in_flight.append(loss)
            if len(in_flight) >= _IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            if first:
                jax.block_until_ready(loss)
                log.info("first step, with compilation: %s", duration(clock.interval().seconds))
                progress, first = Progress(self.step, last), False

            due = schedule.due(self.step)
            if due.log:
                values = self._record(clock)
                log.info("%s", progress.line(self.step, self._epoch, schedule.epochs, values))
            if due.validate:
                self._validate()
            stop, save_now = self._asked(interruption, begin, due)
            if due.checkpoint or stop or save_now:
                self._save()
            if due.validate or due.checkpoint or save_now:
                clock.interval()  # the next interval should not count the time that these took
            if stop and self.step < last:
                self.checkpoints.wait()
                why = interruption.name or "the wall-clock limit (max_minutes)"
                log.info(
                    "stopped by %s at step %d, saved; the same command goes on from there", why, self.step
                )
                return Outcome(self.step, interruption.signal)
        log.info("%s: all %d steps are done", self.run, last)
        return Outcome(self.step)

    @property
    def _epoch(self) -> float:
        return self.step / self.plan.schedule.steps_per_epoch

    def _change_over(self, phase: Phase) -> None:
        """Go from the phase before to `phase`: the encoder is trained from here on."""
        _tell(phase, self.plan)
        self.train = training_step(self.plan.config, phase, self.feed)
        fresh = self.parallel.replicate(self.train.optimizer.init(to_host(self.state.params)))
        self.state = self.state.replace(opt_state=carry_over(self.state.opt_state, fresh))
        log.info("encoder: trained from step %d on", self.step)

    def _asked(self, interruption: Interruption, begin: float, due: Due) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is due by time; the same on all processes.

        Several processes have to agree on what the clock says, which takes a collective: they ask only when
        they log.
        """
        stop = interruption.stops_here()
        if jax.process_count() > 1 and not due.log:
            return stop, False
        config = self.plan.config
        late = 0 < config.max_minutes <= (time.monotonic() - begin) / 60
        since = (time.monotonic() - self._saved_at) / 60
        save = 0 < config.checkpoint.every_minutes <= since
        return stop or any_process(late), any_process(save)

    def _record(self, clock: Clock) -> dict[str, Any]:
        """Fetch the totals from the device, record their means, and start new ones."""
        totals = self._finite_totals()
        steps = int(totals.steps)
        interval = clock.interval()
        values = {name: float(total) / steps for name, total in totals.sums.items()}
        values |= {
            "steps": steps,
            "learning_rate": float(self.plan.rate(self.step - 1)),
            "patches_per_second": interval.steps * self.plan.config.batch_size / interval.seconds,
            "data_wait_fraction": interval.waited / interval.seconds,
        }
        self.monitor.record("train", self.step, self._epoch, values)
        self.state = self.state.replace(totals=self.parallel.replicate(Totals.zero()))
        return values

    def _finite_totals(self) -> Totals:
        totals = to_host(self.state.totals)
        if totals.nonfinite_step >= 0:
            raise TrainingDivergedError(
                f"the loss or a gradient is not finite at step {int(totals.nonfinite_step)}. Try a "
                "lower --config.optimizer.learning_rate, --config.optimizer.clip_norm=1, or "
                "float32; the latest checkpoint is from before that"
            )
        return totals

    def _validate(self) -> None:
        begin = time.monotonic()
        values: dict[str, Any] = dict(
            validate_patches(self.evaluate, self.state.variables, self.feed.validation())
        )
        loss = values["loss"]
        for quality in QUALITIES:
            values[f"train_{quality}"] = epoch_means(self.monitor.history, quality)[1][-1]
        if self.song is not None:
            estimate = self.song.separate(self._masks)
            values |= self.song.score(estimate)
            self.monitor.audio(self.step, self.song.clips(estimate), self.plan.config.audio.sample_rate)
        values["seconds"] = time.monotonic() - begin
        self.monitor.record("valid", self.step, self._epoch, values)
        if self.song is not None:
            measured = "  ".join(f"{q.replace('_', ' ')} {values[q]:.3f}" for q in PATCH_METRICS)
            log.info(
                "validation at epoch %.2f: loss %.4f  %s  uSDR %.2f dB "
                "(mixture %.2f, silence 0, ideal mask %.2f)",
                self._epoch,
                loss,
                measured,
                *(values[k] for k in ("sdr", "sdr_mixture", "sdr_ideal")),
            )
        if self._is_best(values):
            self._checkpoint("best")

    def _is_best(self, values: dict[str, Any]) -> bool:
        """Whether a validation is the best so far, by `config.valid.best_by`; the same on all processes."""
        measure = self.plan.config.valid.best_by
        if measure == "last":
            return True
        if measure == "loss":
            value = values["loss"]
        else:  # only the process that writes has the song
            value = -values["sdr"] if self.song is not None else math.inf
        better = self.best_loss is None or value < self.best_loss
        if measure == "sdr":
            better = any_process(better and self.song is not None)
        if better:
            self.best_loss = value
        return better

    def _save(self) -> None:
        """Write the latest checkpoint, and the figures."""
        self._finite_totals()
        self._checkpoint("latest")
        self._saved_at = time.monotonic()
        self.monitor.figures(self.step, self._snapshot)

    def _checkpoint(self, kind: str) -> None:
        facts = {
            "best_loss": self.best_loss,
            "devices": self.parallel.devices,
            "processes": jax.process_count(),
        }
        self.checkpoints.save(kind, self.step, self.state.variables, self.state.rest, facts)

    def _masks(self, magnitudes: np.ndarray) -> np.ndarray:
        """The network's masks of a batch of magnitudes, on this process's first device."""
        variables = jax.tree.map(lambda x: x.addressable_data(0), self.state.variables)
        return np.asarray(self.predict(variables, magnitudes))

    def _snapshot(self) -> Snapshot:
        """What figures are drawn from."""
        probe, config = self.probe, self.plan.config
        mask = self._masks(np.repeat(probe.mixture, SONG_BATCH, axis=0))[0]  # the shape songs have
        return Snapshot(
            name=config.name,
            run=self.run.name,
            step=self.step,
            history=self.monitor.history,
            mixture=_one_channel(probe.mixture[0]),
            vocals=_one_channel(probe.vocals[0]),
            mask=_one_channel(mask),
            ideal=_one_channel(ratio_mask(probe.vocals, probe.accompaniment)[0]),
            sample_rate=config.audio.sample_rate,
            hop=config.audio.hop,
        )


def _one_channel(x: np.ndarray) -> np.ndarray:
    """`[F, T]` as it is; of `[F, T, K]` the first channel."""
    return x if x.ndim == 2 else x[..., 0]


def _tell(phase: Phase, plan: Plan) -> None:
    """Say what of the encoder is frozen, if anything is."""
    config = plan.config
    if not phase.freeze_encoder:
        return
    what = config.freeze_encoder.replace("_", " ")
    until = f"until epoch {config.unfreeze_epoch}" if len(plan.phases) > 1 else "throughout"
    log.info("encoder: frozen (%s) %s", what, until)
    if not config.init_encoder and not config.init_from:
        log.warning("encoder: FROZEN AS IT IS, and no init_encoder or init_from was given")
