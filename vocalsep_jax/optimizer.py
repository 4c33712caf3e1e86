"""The optimiser, and which parameters it trains when.

A frozen encoder may be set free after some epochs. Training then has two phases; the optimiser of the
second one takes over what that of the first one knows of the decoder.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from vocalsep_jax.models.unet import is_encoder

FREEZE = ("none", "weights", "weights_and_statistics")


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


def training_phases(config: Any, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The one or two phases of a run.

    Raises:
      ValueError: if the config's fields contradict each other or are out of range.
    """
    kind, epoch = config.freeze_encoder, config.unfreeze_epoch
    if kind not in FREEZE:
        raise ValueError(f"freeze_encoder must be one of {', '.join(FREEZE)}, not {kind!r}")
    if epoch < 0:
        raise ValueError(f"unfreeze_epoch must be at least 0, got {epoch}")
    if config.encoder_lr_scale <= 0:
        raise ValueError(
            f"encoder_lr_scale must be above 0, got {config.encoder_lr_scale}; freeze_encoder stops it"
        )
    if kind == "none":
        if epoch:
            raise ValueError(f"unfreeze_epoch is {epoch}, but freeze_encoder is none: nothing is frozen")
        return (Phase(0, False, False),)
    frozen = Phase(0, True, kind == "weights_and_statistics")
    if epoch >= config.epochs:
        raise ValueError(
            f"unfreeze_epoch {epoch} is never reached in {config.epochs} epochs; 0 means never"
        )
    return (frozen, Phase(epoch * steps_per_epoch, False, False)) if epoch else (frozen,)


def learning_rate_schedule(optimizer: Any, last_step: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then constant or a cosine to 0 at `last_step`.

    Raises:
      ValueError: for an unknown schedule.
    """
    peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
    if optimizer.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif optimizer.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(last_step - warmup, 1))
    else:
        raise ValueError(f"optimizer.schedule must be constant or cosine, not {optimizer.schedule!r}")
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: Any, last_step: int, phase: Phase) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019), gradients clipped by global norm where the config says so.

    Encoder and decoder have each an AdamW of their own: an encoder set free in the middle of training
    starts its averages anew, with their bias corrected from there, while the learning rate of both
    follows the steps of the whole run. It is for the parameters that are trained in `phase`.
    """
    rate = learning_rate_schedule(config.optimizer, last_step)

    def encoder_rate(count: Any) -> Any:
        return config.encoder_lr_scale * rate(count + phase.first_step)

    def adamw(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(schedule, weight_decay=config.optimizer.weight_decay)

    parts = {"decoder": adamw(rate)}
    if not phase.freeze_encoder:
        parts["encoder"] = adamw(encoder_rate)
    optimizer = optax.partition(parts, _labels)
    if not config.optimizer.clip_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.optimizer.clip_norm), optimizer)


def carry_over(old: Any, fresh: Any) -> Any:
    """The optimiser state `fresh` with all that `old`, that of an earlier phase, has of it."""
    known = dict(jax.tree.leaves_with_path(old))
    assert known.keys() <= dict(jax.tree.leaves_with_path(fresh)).keys(), "the states have grown apart"
    return jax.tree.map_with_path(lambda path, x: known.get(path, x), fresh)


def _labels(params: dict[str, Any]) -> dict[str, str]:
    return {name: "encoder" if is_encoder(name) else "decoder" for name in params}
