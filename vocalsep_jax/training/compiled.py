"""The compiled programs of a run: its training steps, its evaluation step, and the network alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from vocalsep_jax.config import Config
from vocalsep_jax.data.feed import Feed, Work
from vocalsep_jax.measures.losses import LOSSES, OBJECTIVES
from vocalsep_jax.runtime.data_parallel import AXIS, CompiledStep
from vocalsep_jax.training.optimizer import Phase, make_optimizer
from vocalsep_jax.training.step import make_eval_step, make_train_step


class TrainingStep(NamedTuple):
    """The training step of a phase.

    Attributes:
      optimizer: of the parameters that are trained in it.
      run: maps state and work to the next state and the loss; the state's memory is used again.
    """

    optimizer: optax.GradientTransformation
    run: CompiledStep


def training_step(config: Config, phase: Phase, feed: Feed) -> TrainingStep:
    """The training step of a phase; it is compiled when it is first used."""
    optimizer = make_optimizer(config, phase)
    step = make_train_step(
        config.network(AXIS, freeze_statistics=phase.freeze_statistics),
        optimizer,
        LOSSES[config.loss],
        config.target,
        freeze_encoder=phase.freeze_encoder,
        over_patches=partial(OBJECTIVES[config.objective], floor=config.log_floor),
        rematerialise=config.rematerialise,
    )
    return TrainingStep(optimizer, feed.wrap_training(step))


def evaluation_step(config: Config, feed: Feed) -> CompiledStep:
    """The evaluation step, from variables and work to sums over patches; compiled when it is first used."""
    return feed.wrap_evaluation(make_eval_step(config.network(AXIS), LOSSES[config.loss], config.target))


def network_alone(config: Config) -> Any:
    """The network on one device, from variables and a batch of magnitudes to masks of that shape."""
    return jax.jit(config.network(AXIS).apply)


def compile_in_background(calls: Sequence[tuple[CompiledStep, Any, Work]]) -> threading.Thread:
    """Compile steps while the caller goes on; returns the thread, to be joined.

    A call is a step, its first argument, and its work. Nothing is kept here: JAX finds the compiled
    programs when they are first called.
    """

    def compile_all() -> None:
        for step, first, work in calls:
            with contextlib.suppress(Exception):  # the call that needs the program raises it again
                step.lower(first, work.batch, *work.shared).compile()

    thread = threading.Thread(target=compile_all, name="compile")
    thread.start()
    return thread
