"""Training: the wiring of songs, pipeline, network, devices and records, and the loop over steps.

A run starts from, in this order: its own latest checkpoint (resuming), the run named in
`config.init_from` (warm start: weights and statistics only), the encoder named in `config.init_encoder`
(its weights and statistics; the decoder is random), random weights.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vocalsep_jax import evaluate, metrics, monitoring, plots, runs, spectral, transfer
from vocalsep_jax.checkpoints import Checkpoints, has_checkpoint
from vocalsep_jax.console import duration
from vocalsep_jax.data.feed import PLACEMENTS, STFT_ON, Recipe, loudest_patch, open_songs
from vocalsep_jax.data.sampling import STREAM_LENGTH, Augmentation
from vocalsep_jax.data.songs import Library, check_trainable, find_library, names
from vocalsep_jax.data.synth import builtin_library
from vocalsep_jax.losses import LOSSES
from vocalsep_jax.models.unet import unet_from_config
from vocalsep_jax.optimizer import (
    Phase,
    carry_over,
    learning_rate_schedule,
    make_optimizer,
    training_phases,
)
from vocalsep_jax.parallel import DataParallel, any_process, to_host
from vocalsep_jax.schedule import Clock, Due, Interruption, Schedule
from vocalsep_jax.streaming import MaskFilter
from vocalsep_jax.train_step import (
    AXIS,
    QUALITIES,
    Totals,
    TrainState,
    create_state,
    make_eval_step,
    make_train_step,
)

log = logging.getLogger(__name__)

_IN_FLIGHT = 2
"""Calls of the step that are not finished; enough to keep a device busy, few enough to bound memory."""

_CLIP_SECONDS = 10
_SONG_BATCH = 8
"""Patches of the validation song that are predicted at once."""


class ConfigError(Exception):
    """The config asks for something impossible; the message names the field."""


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


def train_and_evaluate(config: Any, workdir: str | Path) -> Outcome:
    """Train as `config` says, in `workdir`, going on where an earlier call stopped.

    Args:
      config: an ml_collections ConfigDict as `configs/base.py` gives, or the same as nested dictionaries
        (as `config.json` of a run holds them), which takes no ml_collections.
      workdir: the run's folder; what it holds afterwards is listed in the README.

    Returns:
      How it ended: at the last step, at the wall-clock limit, or by SIGTERM or Ctrl-C; in each case
      with the state saved.

    Raises:
      ConfigError, SongError, RunError: if it cannot start; the message says what to change.
      TrainingDivergedError: at the first loss or gradient that is not finite.
    """
    start_time = time.monotonic()
    run = Path(workdir).expanduser()
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise runs.RunError(f"{run}: cannot be made ({error.strerror})") from error
    training = _Training(runs.plain(config), run)
    with Interruption() as interruption, training:
        return training.loop(interruption, start_time)


class _Training:
    """The parts of a run, wired."""

    def __init__(self, fields: dict[str, Any], run: Path):
        config = runs.Fields(fields)
        self._fields, self._config, self._run = fields, config, run
        try:
            _check(config)
        except TypeError as error:
            raise ConfigError(f"a field of the config is of the wrong type ({error})") from error
        steps_per_epoch = config.patches_per_epoch // config.batch_size
        self._writes = jax.process_index() == 0
        try:
            self._parallel = DataParallel(config.parallel)
            self._parallel.check_batch_size(config.batch_size)
            self._stft = spectral.Stft(config.audio.n_fft, config.audio.hop)
            augmentation = Augmentation(
                config.data.channels,
                config.data.voiced_share,
                config.data.gain_db,
                config.data.swap_channels,
                config.data.repair,
            )
            model = unet_from_config(fields, AXIS)
            self._rate = learning_rate_schedule(config.optimizer, config.epochs * steps_per_epoch)
            self._phases = training_phases(config, steps_per_epoch)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except TypeError as error:
            raise ConfigError(f"a field of the config is of the wrong type ({error})") from error
        except KeyError as error:
            raise ConfigError(f"the config has no field model.{error.args[0]}") from error
        patch = (self._stft.bins, config.audio.patch_frames)
        try:
            model.check_patch(*patch)
        except ValueError as error:
            raise ConfigError(
                f"{error}. They come from audio.n_fft (bins: n_fft / 2 + 1), or from frequency_bins where "
                f"frequency_scale is not linear, and from audio.patch_frames; the depth is model.depth"
            ) from error

        self._refuse_changed_config()
        library = _library(config)
        recipe = Recipe(
            config.seed,
            self._stft,
            config.audio.patch_frames,
            config.batch_size,
            augmentation,
            config.valid.patches,
        )
        try:
            self._feed, self._songs, valid = open_songs(library, config, recipe, self._parallel)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.schedule = Schedule(
            steps_per_epoch,
            config.epochs,
            config.log_every_steps,
            config.valid.every_epochs,
            config.checkpoint.every_steps,
        )
        eval_step = make_eval_step(model, LOSSES[config.loss])
        self._eval_step = self._feed.wrap_evaluation(eval_step)
        self._predict = jax.jit(model.apply)

        checkpoints = Checkpoints(run)
        self._checkpoints = checkpoints
        # A state is as the phase left it in which its last step was taken; the loop changes it over.
        phase = self._phase_of(max((checkpoints.latest_step() or 0) - 1, 0))
        self._enter(phase)
        fresh = self._parallel.replicate(
            create_state(
                model,
                self._optimizer,
                config.seed,
                patch,
                freeze_encoder=phase.freeze_encoder,
            )
        )
        restored = self._restore(fresh)
        self._best: float | None = None
        if restored:
            self._state, facts = restored
            self._best = facts["best_loss"]
        else:
            self._state = self._start(fresh)
            checkpoints.forget()  # a best one, of a run that was killed before its first latest one
            if self._writes:
                runs.write_config(run, fields, self._songs)
        self._step = int(to_host(self._state.step))
        self._compiling = self._compile_ahead()
        self._monitor = monitoring.Monitor(
            run, writes=self._writes, resume_step=self._step, title=f"{config.name}: {run.name}"
        )
        self._saved_at = time.monotonic()
        self._probe = loudest_patch(valid, recipe)
        if self._writes:
            self._valid_song = library.splits["valid"][0].load(config.audio.sample_rate)
            rate = config.audio.sample_rate
            self._baselines = evaluate.baselines(
                self._valid_song, self._stft, sample_rate=rate, mask_rate=rate
            )

    def __enter__(self) -> _Training:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._checkpoints.close()
        finally:
            self._monitor.close()

    # --- starting --------------------------------------------------------------------------------

    @property
    def _elsewhere(self) -> str:
        return f"another --workdir, with --config.init_from={self._run} to start from its weights"

    def _refuse_changed_config(self) -> None:
        """Raise RunError if the folder holds checkpoints of another config, or of an unknown one."""
        if not has_checkpoint(self._run):
            return
        if not runs.config_path(self._run).is_file():
            raise runs.RunError(f"{self._run}: holds checkpoints but no config.json; use another --workdir")
        old = runs.read_config(self._run)
        if old.get("format", 0) < runs.FORMAT:
            raise runs.RunError(
                f"{self._run}: was made by an older version, which cannot be resumed. Use {self._elsewhere}"
            )
        changed = runs.differences(old["config"], self._fields)
        if changed:
            raise runs.RunError(
                f"{self._run}: holds a run with another config ({'; '.join(changed)}). "
                f"Use {self._elsewhere}"
            )

    def _restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The state to resume from, unless there is none; refuses one trained on other songs."""
        restored = self._checkpoints.restore_latest(like)
        if restored is None:
            return None
        if runs.read_config(self._run)["songs"] != self._songs:
            raise runs.RunError(
                f"{self._run}: was trained on other songs than {self._config.data.root or 'these'} "
                f"now holds. Restore them, or use {self._elsewhere}"
            )
        log.info("resuming %s at step %d", self._run, int(to_host(restored[0].step)))
        return restored

    def _start(self, fresh: TrainState) -> TrainState:
        """The state of step 0."""
        config = self._config
        log.info("%s", monitoring.parameter_table(fresh.params))
        if not config.init_from and not config.init_encoder:
            log.info("weights: random (seed %d), encoder and decoder", config.seed)
            return fresh
        model = to_host({"params": fresh.params, "batch_stats": fresh.batch_stats})
        if config.init_from:
            model = transfer.start_from_run(config.init_from, model)
        else:
            model = transfer.start_from_encoder(config.init_encoder, model)
        return fresh.replace(**self._parallel.replicate(model))

    def _phase_of(self, step: int) -> Phase:
        """The phase in which the step after `step` steps is taken."""
        return next(p for p in reversed(self._phases) if p.first_step <= step)

    def _enter(self, phase: Phase) -> None:
        """Make the training step of a phase; it is compiled when it is first used."""
        config = self._config
        if phase.freeze_encoder:
            what = config.freeze_encoder.replace("_", " ")
            until = f"until epoch {config.unfreeze_epoch}" if len(self._phases) > 1 else "throughout"
            log.info("encoder: frozen (%s) %s", what, until)
            if not config.init_encoder and not config.init_from:
                log.warning("encoder: FROZEN AS IT IS, and no init_encoder or init_from was given")
        self._optimizer = make_optimizer(config, self.schedule.last_step, phase)
        step = make_train_step(
            unet_from_config(self._fields, AXIS, freeze_statistics=phase.freeze_statistics),
            self._optimizer,
            LOSSES[config.loss],
            freeze_encoder=phase.freeze_encoder,
            rematerialise=config.rematerialise,
        )
        self._train_step = self._feed.wrap_training(step)

    def _change_over(self, phase: Phase) -> None:
        """Go from the phase before to `phase`: the encoder is trained from here on."""
        self._enter(phase)
        fresh = self._parallel.replicate(self._optimizer.init(to_host(self._state.params)))
        self._state = self._state.replace(opt_state=carry_over(self._state.opt_state, fresh))
        log.info("encoder: trained from step %d on", self._step)

    def _compile_ahead(self) -> threading.Thread:
        """Compile the steps in the background, while records are opened and validation is prepared.

        Nothing is kept here: JAX finds the compiled programs when they are first called.
        """
        state, variables = self._state, (self._state.params, self._state.batch_stats)
        steps = ((self._train_step, state, "train"), (self._eval_step, variables, "valid"))
        calls = [(step, first, self._feed.example(split)) for step, first, split in steps]

        def compile_all() -> None:
            for step, first, work in calls:
                with contextlib.suppress(Exception):  # the call that needs the program raises it again
                    step.lower(first, work.batch, *work.shared).compile()

        thread = threading.Thread(target=compile_all, name="compile")
        if self._step < self.schedule.last_step:
            thread.start()
        return thread

    # --- the loop --------------------------------------------------------------------------------

    def loop(self, interruption: Interruption, start_time: float) -> Outcome:
        """Take steps until the last, or until told to stop."""
        schedule, last = self.schedule, self.schedule.last_step
        if self._step >= last:
            log.info("%s: all %d steps are done", self._run, last)
            return Outcome(self._step)
        clock = Clock()
        in_flight: deque[Any] = deque()
        changes = {p.first_step: p for p in self._phases[1:]}

        starts = {self._step, *changes}  # steps at which something is compiled, and waited for

        def until(step: int) -> int:
            return step + 1 if step in starts else schedule.next_due(step)

        first = True  # of this call, or of a phase
        for work in clock.waiting(self._feed.training(self._step, last, until)):
            self._compiling.join()
            if self._step in changes:
                self._change_over(changes[self._step])
                first = True
            with jax.transfer_guard("disallow"):  # what a step needs is there already
                self._state, loss = self._train_step(self._state, work.batch, *work.shared)
            self._step += work.steps
            in_flight.append(loss)
            if len(in_flight) >= _IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            if first:
                jax.block_until_ready(loss)
                seconds = clock.interval().seconds
                log.info("first step, with compilation: %s", duration(seconds))
                progress, first = monitoring.Progress(self._step, last), False

            due = schedule.due(self._step)
            if due.log:
                values = self._log(clock)
                log.info("%s", progress.line(self._step, self._epoch, schedule.epochs, values))
            if due.validate:
                self._validate()
            stop, save_now = self._asked(interruption, start_time, due)
            if due.checkpoint or stop or save_now:
                self._checkpoint()
            if due.validate or due.checkpoint or save_now:
                clock.interval()  # the next one should not pay for these
            if stop and self._step < last:
                return self._stopped(interruption)
        log.info("%s: all %d steps are done", self._run, last)
        return Outcome(self._step)

    @property
    def _epoch(self) -> float:
        return self._step / self.schedule.steps_per_epoch

    def _asked(self, interruption: Interruption, start_time: float, due: Due) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is due by time; the same on all processes.

        Several processes have to agree, which takes a collective: they ask only when they log.
        """
        if jax.process_count() > 1 and not due.log:
            return False, False
        minutes = (time.monotonic() - start_time) / 60
        limit = self._config.max_minutes
        stop = bool(interruption.signal) or (limit > 0 and minutes >= limit)
        since = (time.monotonic() - self._saved_at) / 60
        save = 0 < self._config.checkpoint.every_minutes <= since
        return any_process(stop), any_process(save)

    def _stopped(self, interruption: Interruption) -> Outcome:
        self._checkpoints.wait()
        why = interruption.name or "the wall-clock limit (max_minutes)"
        log.info("stopped by %s at step %d, saved; the same command goes on from there", why, self._step)
        return Outcome(self._step, interruption.signal)

    def _log(self, clock: Clock) -> dict[str, Any]:
        """Fetch the totals from the device, record their means, and start new ones."""
        totals = self._finite_totals()
        steps = int(totals.steps)
        interval = clock.interval()
        values = {name: float(total) / steps for name, total in totals.sums.items()}
        values |= {
            "steps": steps,
            "learning_rate": float(self._rate(self._step - 1)),
            "patches_per_second": interval.steps * self._config.batch_size / interval.seconds,
            "data_wait_fraction": interval.waited / interval.seconds,
        }
        self._monitor.record("train", self._step, self._epoch, values)
        self._state = self._state.replace(totals=self._parallel.replicate(Totals.zero()))
        return values

    def _finite_totals(self) -> Totals:
        totals = to_host(self._state.totals)
        if totals.nonfinite_step >= 0:
            raise TrainingDivergedError(
                f"the loss or a gradient is not finite at step {int(totals.nonfinite_step)}. Try a "
                "lower --config.optimizer.learning_rate, --config.optimizer.clip_norm=1, or "
                "float32; the latest checkpoint is from before that"
            )
        return totals

    def _validate(self) -> None:
        begin = time.monotonic()
        variables = (self._state.params, self._state.batch_stats)
        sums = [self._eval_step(variables, work.batch, *work.shared) for work in self._feed.validation()]
        total = jax.tree.map(lambda *x: float(np.sum(x, dtype=np.float64)), *map(to_host, sums))
        values: dict[str, Any] = {q: total[q] / total["patches"] for q in QUALITIES}
        for quality in QUALITIES:
            values[f"train_{quality}"] = plots.epoch_means(self._monitor.history, quality)[1][-1]
        if self._writes:
            values |= self._score_song()
        values["seconds"] = time.monotonic() - begin
        self._monitor.record("valid", self._step, self._epoch, values)
        if self._writes:
            log.info(
                "validation at epoch %.2f: loss %.4f  dice %.3f  soft dice %.3f  uSDR %.2f dB "
                "(mixture %.2f, silence 0, ideal mask %.2f)",
                self._epoch,
                *(values[q] for q in QUALITIES),
                *(values[k] for k in ("sdr", "sdr_mixture", "sdr_ideal")),
            )
        if self._best is None or values["loss"] < self._best:
            self._best = values["loss"]
            self._checkpoints.save("best", self._state, self._step, self._facts())

    def _score_song(self) -> dict[str, float]:
        """uSDR of the first validation song, whole; and clips of it to listen to."""
        song, audio = self._valid_song, self._config.audio
        mask_filter = MaskFilter(
            self._stft,
            self._masks,
            channels=song.mixture.shape[1],
            patch_frames=audio.patch_frames,
            batch_size=_SONG_BATCH,
            overlap=self._config.valid.song_overlap,
        )
        estimate = np.concatenate([mask_filter.push(song.mixture), mask_filter.finish()])
        loudest = _loudest_window(song.vocals, _CLIP_SECONDS * audio.sample_rate)
        clips = {"mixture": song.mixture, "predicted": estimate, "desired": song.vocals}
        self._monitor.audio(self._step, {k: x[loudest] for k, x in clips.items()}, audio.sample_rate)
        scores = {f"sdr_{name}": value for name, value in self._baselines.items()}
        return {"sdr": metrics.usdr(song.vocals, estimate)} | scores

    def _masks(self, magnitudes: np.ndarray) -> np.ndarray:
        """The network's masks of `[B, F, T]` magnitudes, on this process's first device."""
        return np.asarray(self._predict(self._local_variables(), magnitudes))

    def _local_variables(self) -> dict[str, Any]:
        """The network's variables on this process's first device."""
        variables = {"params": self._state.params, "batch_stats": self._state.batch_stats}
        return jax.tree.map(lambda x: x.addressable_data(0), variables)

    def _checkpoint(self) -> None:
        self._finite_totals()
        self._checkpoints.save("latest", self._state, self._step, self._facts())
        self._saved_at = time.monotonic()
        if self._writes:
            self._monitor.figures(self._step, self._prediction_figure)

    def _facts(self) -> dict[str, Any]:
        return {"best_loss": self._best}

    def _prediction_figure(self) -> plots.Figure:
        patch, audio = self._probe, self._config.audio
        mask = self._masks(np.repeat(patch.mixture, _SONG_BATCH, axis=0))[0]  # the shape songs have
        ideal = spectral.ratio_mask(patch.vocals, patch.accompaniment)[0]
        return plots.prediction(
            patch.mixture[0],
            patch.vocals[0],
            mask,
            ideal,
            sample_rate=audio.sample_rate,
            hop=audio.hop,
            title=f"{self._config.name}: a validation patch after {self._step} steps",
        )


def _check(config: Any) -> None:
    """Raise ConfigError for values that would fail later, or silently do something else."""
    if config.loss not in LOSSES:
        raise ConfigError(f"loss must be one of {', '.join(LOSSES)}, not {config.loss!r}")
    choices = {"placement": PLACEMENTS, "stft_on": STFT_ON}
    for name, allowed in choices.items():
        if (value := getattr(config.data, name)) not in allowed:
            raise ConfigError(f"data.{name} must be one of {', '.join(allowed)}, not {value!r}")
    if config.steps_per_dispatch < 0:
        raise ConfigError(f"steps_per_dispatch must be at least 0, got {config.steps_per_dispatch}")
    if not 0 <= config.valid.song_overlap < 1:
        raise ConfigError(f"valid.song_overlap must be in [0, 1), got {config.valid.song_overlap}")
    at_least_one = {
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "log_every_steps": config.log_every_steps,
        "valid.every_epochs": config.valid.every_epochs,
        "valid.patches": config.valid.patches,
        "audio.patch_frames": config.audio.patch_frames,
        "audio.sample_rate": config.audio.sample_rate,
    }
    for name, value in at_least_one.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if config.patches_per_epoch < config.batch_size:
        raise ConfigError(
            f"patches_per_epoch {config.patches_per_epoch} is less than one batch ({config.batch_size})"
        )
    if not 0 <= config.seed < STREAM_LENGTH:
        raise ConfigError(f"seed must be from 0 to 2^32 - 1, got {config.seed}")
    if config.epochs * config.patches_per_epoch >= STREAM_LENGTH:
        raise ConfigError("epochs x patches_per_epoch must be below 2^32")
    if config.init_from and config.init_encoder:
        raise ConfigError("init_from and init_encoder: a run starts from one of them, not both")


def _library(config: Any) -> Library:
    """The songs the config names, with their split said in the log."""
    if config.data.root:
        library = find_library(
            config.data.root,
            valid_songs=config.data.valid_songs,
            valid_names=config.data.valid_names,
            seed=config.seed,
        )
    else:
        log.warning(
            "NO SONGS GIVEN: training on the built-in generated songs. For real ones: "
            "--config.data.root=FOLDER (train/<song>/{vocals,accompaniment}.wav, MUSDB18-HQ, ...)"
        )
        builtin = config.data.builtin
        library = builtin_library(
            train_songs=builtin.train_songs,
            valid_songs=builtin.valid_songs,
            test_songs=0,
            seconds=builtin.seconds,
            seed=config.seed,
        )
    check_trainable(library)
    log.info(
        "%s: %d training songs; validation (%s): %s",
        library.source,
        len(library.splits["train"]),
        library.validation_choice,
        ", ".join(names(library.splits["valid"])),
    )
    return library


def _loudest_window(x: np.ndarray, length: int) -> slice:
    """The stretch of `length` samples (or all) of `[S, C]` with most energy, on a coarse grid."""
    step = max(1, length // 4)
    starts = range(0, max(1, len(x) - length), step)
    start = max(starts, key=lambda s: float(np.sum(np.square(x[s : s + length]))))
    return slice(start, start + length)
