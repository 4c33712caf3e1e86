"""The optimiser, and which parameters it trains when.

A frozen encoder may be set free after some epochs. Training then has two phases; the second phase's
optimiser takes over the decoder's part of the first one's state.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import optax

from vocalsep_jax.config import Config, OptimizerOptions
from vocalsep_jax.models.unet import is_encoder


class Phase(NamedTuple):
    """A stretch of training throughout which the same parameters are trained.

    Attributes:
      first_step: steps taken when it begins.
      freeze_encoder: whether the encoder's parameters stay as they are.
      freeze_statistics: whether its BatchNorm uses its running statistics and leaves them as they are.
    """

    first_step: int
    freeze_encoder: bool
    freeze_statistics: bool


def training_phases(config: Config) -> tuple[Phase, ...]:
    """The one or two phases of a run."""
    if config.freeze_encoder == "none":
        return (Phase(0, freeze_encoder=False, freeze_statistics=False),)
    statistics = config.freeze_encoder == "weights_and_statistics"
    frozen = Phase(0, freeze_encoder=True, freeze_statistics=statistics)
    if not config.unfreeze_epoch:
        return (frozen,)
    free = Phase(
        config.unfreeze_epoch * config.steps_per_epoch, freeze_encoder=False, freeze_statistics=False
    )
    return frozen, free


def learning_rate_schedule(options: OptimizerOptions, last_step: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then constant or a cosine to 0 at `last_step`."""
    peak, warmup = options.learning_rate, options.warmup_steps
    if options.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(last_step - warmup, 1))
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: Config, phase: Phase) -> optax.GradientTransformation:
    """The optimiser of what is trained in `phase`: AdamW (Loshchilov & Hutter 2019) or Muon.

    Gradients are clipped by global norm where the config says so. Encoder and decoder have an optimiser
    each: an encoder set free in the middle of training starts with new averages, whose bias is corrected
    from there. The learning rate of both follows the steps of the whole run.
    """
    rate = learning_rate_schedule(config.optimizer, config.last_step)

    def encoder_rate(count: Any) -> Any:
        return config.encoder_lr_scale * rate(count + phase.first_step)

    kind = _muon if config.optimizer.kind == "muon" else optax.adamw
    make = functools.partial(kind, weight_decay=config.optimizer.weight_decay)
    parts = {"decoder": make(rate)}
    if not phase.freeze_encoder:
        parts["encoder"] = make(encoder_rate)
    optimizer = optax.partition(parts, _labels)
    if not config.optimizer.clip_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.optimizer.clip_norm), optimizer)


def carry_over(old: Any, fresh: Any) -> Any:
    """The optimiser state `fresh`; what is in `old` too, an earlier phase's state, is taken from there."""
    known = dict(jax.tree.leaves_with_path(old))
    assert known.keys() <= dict(jax.tree.leaves_with_path(fresh)).keys(), "the states have grown apart"
    return jax.tree.map_with_path(lambda path, x: known.get(path, x), fresh)


_ADAM_RMS = 0.2
"""Root mean square of AdamW's updates, about, in learning rates (Liu et al. 2025, section 2.2)."""


def _muon(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for the kernels, AdamW with Nesterov's momentum for the rest.

    A kernel is a matrix from all that a position sees to its outputs. It is updated by as much as AdamW
    would, about (Liu et al. 2025, "Muon is scalable for LLM training"): both take the same learning rates.
    """

    def matrices(params: Any) -> Any:
        convolution = optax.contrib.MuonDimensionNumbers((0, 1, 2), (3,))
        return jax.tree.map(lambda x: convolution if getattr(x, "ndim", 0) == 4 else None, params)

    return optax.contrib.muon(
        schedule,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        adam_learning_rate=schedule,
        consistent_rms=_ADAM_RMS,
        muon_weight_dimension_numbers=matrices,
    )


def _labels(params: dict[str, Any]) -> dict[str, str]:
    return {name: "encoder" if is_encoder(name) else "decoder" for name in params}
