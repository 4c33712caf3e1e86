"""What a run starts from: resume > warm start > encoder > scratch.

A run goes on from its own latest checkpoint, if it has one. Else it starts from the run named in
`config.init_from` (weights and statistics), or from the encoder named in `config.init_encoder` (its
weights and statistics; the decoder is random), or from random weights.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vocalsep_jax.config import RESUMABLE_SINCE, Config, differences
from vocalsep_jax.runs.checkpoints import Checkpoints, has_checkpoint
from vocalsep_jax.runs.folder import RunError, config_path
from vocalsep_jax.runs.record import RunRecord, SongLengths, read_record, write_record
from vocalsep_jax.runtime.data_parallel import DataParallel, to_host
from vocalsep_jax.training.monitoring import parameter_table
from vocalsep_jax.training.step import TrainState
from vocalsep_jax.training.transfer import start_from_encoder, start_from_run

log = logging.getLogger(__name__)


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
      state: the first state.
      step: steps taken in it.
      best_loss: the least validation loss so far, as `loop.Training` has it; None before the first.
    """

    state: TrainState
    step: int
    best_loss: float | None


def check_resumable(run: Path, config: Config) -> None:
    """Raise RunError if the folder holds checkpoints of another config, or of an unknown one."""
    if not has_checkpoint(run):
        return
    if not config_path(run).is_file():
        raise RunError(f"{run}: holds checkpoints but no config.json; use another --workdir")
    old = read_record(run)
    if old.format < RESUMABLE_SINCE:
        raise RunError(
            f"{run}: was made by an older version, which cannot be resumed. Use {_elsewhere(run)}"
        )
    if changed := differences(old.config, config):
        raise RunError(
            f"{run}: holds a run with another config ({'; '.join(changed)}). Use {_elsewhere(run)}"
        )


def find_start(
    run: Path,
    config: Config,
    songs: SongLengths,
    fresh: TrainState,
    checkpoints: Checkpoints,
    parallel: DataParallel,
    *,
    writes: bool,
) -> Start:
    """The state that a run starts from; of a new run, `config.json` is written.

    Args:
      run: its folder.
      config: its config; `check_resumable` has passed.
      songs: those it trains and validates on.
      fresh: a random state on all devices.
      checkpoints: of the run.
      parallel: the devices.
      writes: whether this process writes what all processes share.

    Raises:
      RunError: if a checkpoint cannot be used, or the run was trained on other songs.
    """
    if restored := checkpoints.restore_latest(fresh.variables, fresh.rest):
        if read_record(run).songs != songs:
            raise RunError(
                f"{run}: was trained on other songs than {config.data.root or 'these'} now holds. "
                f"Restore them, or use {_elsewhere(run)}"
            )
        state = fresh.replace(**restored.model, **restored.training)
        step = int(to_host(state.step))
        log.info("resuming %s at step %d%s", run, step, _other_devices(restored.facts, parallel))
        return Start(state, step, restored.facts["best_loss"])
    log.info("%s", parameter_table(fresh.params))
    if config.init_from:
        weights = start_from_run(config.init_from, to_host(fresh.variables))
        state = fresh.replace(**parallel.replicate(weights))
    elif config.init_encoder:
        weights = start_from_encoder(config.init_encoder, to_host(fresh.variables))
        state = fresh.replace(**parallel.replicate(weights))
    else:
        log.info("weights: random (seed %d), encoder and decoder", config.seed)
        state = fresh
    checkpoints.forget()  # a best one, of a run that was killed before its first latest one
    if writes:
        write_record(run, RunRecord(config, songs))
    return Start(state, 0, None)


def _other_devices(facts: dict[str, Any], parallel: DataParallel) -> str:
    """Says so, if a run is resumed on other devices than a checkpoint's facts tell."""
    before, now = (facts.get("devices"), facts.get("processes")), (parallel.devices, jax.process_count())
    if None in before or before == now:
        return ""
    was, are = ("{} device(s) of {} process(es)".format(*count) for count in (before, now))
    return f" on {are}, before {was}: the same samples, and the same numbers but for rounding"


def _elsewhere(run: Path) -> str:
    return f"another --workdir, with --config.init_from={run} to start from its weights"
