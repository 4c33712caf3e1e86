"""The plan of a run: what follows from its config alone, before anything is read, made or computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import optax

from vocalsep_jax.config import Config
from vocalsep_jax.data.feed import Recipe
from vocalsep_jax.data.songs import (
    Library,
    SongError,
    at_speeds,
    check_trainable,
    find_library,
    names,
    with_training_songs,
)
from vocalsep_jax.data.synth.song import builtin_library, builtin_song
from vocalsep_jax.training.optimizer import Phase, learning_rate_schedule, training_phases
from vocalsep_jax.training.schedule import Schedule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run does, and when.

    Attributes:
      config: of the run.
      schedule: when things are due.
      phases: stretches in which the same parameters are trained, one or two.
      rate: the learning rate by step.
      recipe: how samples of songs become batches.
    """

    config: Config
    schedule: Schedule
    phases: tuple[Phase, ...]
    rate: optax.Schedule
    recipe: Recipe

    @classmethod
    def of(cls, config: Config) -> Plan:
        """The plan of a config."""
        schedule = Schedule(
            config.steps_per_epoch,
            config.epochs,
            config.log_every_steps,
            config.valid.every_epochs,
            config.checkpoint.every_steps,
        )
        recipe = Recipe(
            config.seed,
            config.stft,
            config.audio.patch_frames,
            config.batch_size,
            config.data,
            config.valid.patches,
        )
        rate = learning_rate_schedule(config.optimizer, config.last_step)
        return cls(config, schedule, training_phases(config), rate, recipe)

    def phase(self, step: int) -> Phase:
        """The phase in which the step after `step` steps is taken."""
        return next(p for p in reversed(self.phases) if p.first_step <= step)

    def phase_of_state(self, step: int) -> Phase:
        """The phase of the last of `step` steps: a state saved after them has that phase's optimiser."""
        return self.phase(max(step - 1, 0))


def choose_songs(config: Config) -> Library:
    """The songs that a config names, or the built-in ones; the split is logged.

    Raises:
      SongError: if there are none, or too few to train on.
    """
    if config.data.instrumentals and not (config.data.root and config.data.remix):
        raise SongError(
            "data.instrumentals needs data.root, and data.remix above 0: music without a voice is heard "
            "where a voice is paired with it"
        )
    builtin = config.data.builtin
    if config.data.root:
        library = find_library(
            config.data.root,
            valid_songs=config.data.valid_songs,
            valid_names=config.data.valid_names,
            instrumentals=config.data.instrumentals,
            seed=config.seed,
        )
        beside = [builtin_song(config.seed, "train", n, builtin.seconds) for n in range(builtin.beside)]
        library = with_training_songs(library, beside)
    else:
        log.warning(
            "NO SONGS GIVEN: training on the built-in generated songs. For real ones: "
            "--config.data.root=FOLDER (train/<song>/{vocals,accompaniment}.wav, MUSDB18-HQ, ...)"
        )
        library = builtin_library(
            train_songs=builtin.train_songs,
            valid_songs=builtin.valid_songs,
            test_songs=0,
            seconds=builtin.seconds,
            seed=config.seed,
        )
    check_trainable(library)
    library = at_speeds(library, config.data.speeds)
    log.info(
        "%s: %d training songs; validation (%s): %s",
        library.source,
        len(library.splits["train"]),
        library.validation_choice,
        ", ".join(names(library.splits["valid"])),
    )
    return library
