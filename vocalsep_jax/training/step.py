"""One training step and one evaluation step, per device: pure JAX, arrays in, arrays out.

Both are written for one device of a named axis (`AXIS`); gradients, statistics and metrics are
averaged over it. `runtime/data_parallel.py` spreads them over devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from vocalsep_jax.data.crops import TARGETS, Batch
from vocalsep_jax.measures import losses, metrics
from vocalsep_jax.models.layers import CONVOLUTION
from vocalsep_jax.models.networks import Network
from vocalsep_jax.models.unet import is_encoder
from vocalsep_jax.runtime.data_parallel import AXIS

Array = jax.Array

QUALITIES = ("loss", *metrics.PATCH_METRICS)
"""What is averaged over patches, in training and in evaluation."""


class Totals(flax.struct.PyTreeNode):
    """Sums over the steps since the last log; they stay on the device until then.

    Attributes:
      steps: int32 `[]`, steps summed.
      sums: float32 `[]` each; divide by `steps` for the mean.
      nonfinite_step: int32 `[]`, the first step whose loss or gradient was not finite, or -1.
    """

    steps: Array
    sums: dict[str, Array]
    nonfinite_step: Array

    @classmethod
    def zero(cls) -> Totals:
        """Totals of no steps."""
        names = (*QUALITIES, "grad_norm", "param_norm", "update_norm")
        return cls(
            steps=jnp.zeros((), jnp.int32),
            sums={name: jnp.zeros((), jnp.float32) for name in names},
            nonfinite_step=jnp.full((), -1, jnp.int32),
        )


class TrainState(flax.struct.PyTreeNode):
    """All that training changes, and all that a checkpoint must hold.

    Attributes:
      step: int32 `[]`, steps taken.
      params: network parameters.
      batch_stats: BatchNorm running statistics.
      opt_state: optimiser state, of the parameters that are trained.
      totals: metrics since the last log.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    totals: Totals

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is applied with: parameters and running statistics."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def rest(self) -> dict[str, Any]:
        """All else that a checkpoint must hold."""
        return {"step": self.step, "opt_state": self.opt_state, "totals": self.totals}


def trained_params(params: dict[str, Any], freeze_encoder: bool) -> dict[str, Any]:
    """The parameters that training changes: all, or those of the decoder."""
    return {name: x for name, x in params.items() if not (freeze_encoder and is_encoder(name))}


def create_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    patch: tuple[int, ...],
    *,
    freeze_encoder: bool = False,
) -> TrainState:
    """A freshly initialised state; `patch` is the `(F, T)` or `(F, T, K)` the network is traced with."""
    # Compiled as one program, from which XLA drops the forward pass; and with the random bits that are
    # quickest to compile for: the default ones would add ten seconds to every start on a CPU.
    key = jax.random.key(seed, impl="rbg")
    variables = jax.jit(model.init)(key, jnp.zeros((1, *patch), jnp.float32))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(trained_params(variables["params"], freeze_encoder)),
        totals=Totals.zero(),
    )


def patch_qualities(
    loss: Callable[[Array, Array], Array], mask: Array, batch: Batch, target: str = "vocals"
) -> dict[str, Array]:
    """Each of `QUALITIES` for each patch: `[B]` float32; `target` is one of `crops.TARGETS`."""
    qualities = {"loss": loss(mask * batch.mixture, TARGETS[target](batch))}
    for name, metric in metrics.PATCH_METRICS.items():
        qualities[name] = metric.measure(mask, batch.vocals, batch.accompaniment)
    return qualities


def make_objective(
    model: Network,
    loss: Callable[[Array, Array], Array],
    target: str = "vocals",
    *,
    over_patches: Callable[[Array, Array], Array] = losses.mean,
    rematerialise: bool = False,
) -> Callable[[Any, TrainState, Batch], tuple[Array, tuple[Any, dict[str, Array]]]]:
    """What a training step takes the gradient of.

    The returned function maps `(trained, state, batch)`, where `trained` are the parameters to be
    trained, to the loss and `(batch statistics, means of QUALITIES)`.

    `over_patches` makes one number of the patches' losses and of their mixtures' losses against silence, as
    `measures.losses.OBJECTIVES` do. The loss that is reported is the mean, whatever is minimised.

    With `rematerialise` the backward pass keeps of each layer the convolution's output only, and computes
    normalisation, activation and concatenation anew (Chen et al. 2016, "Training deep nets with sublinear
    memory cost").
    """

    def objective(
        trained: Any, state: TrainState, batch: Batch
    ) -> tuple[Array, tuple[Any, dict[str, Array]]]:
        mask, updated = model.apply(
            {"params": state.params | trained, "batch_stats": state.batch_stats},
            batch.mixture,
            train=True,
            mutable=["batch_stats"],
        )
        qualities = patch_qualities(loss, mask, batch, target)
        means = {name: jnp.mean(values) for name, values in qualities.items()}
        silence = loss(batch.mixture, jnp.zeros_like(batch.mixture))
        return over_patches(qualities["loss"], silence), (updated["batch_stats"], means)

    if rematerialise:
        keep = jax.checkpoint_policies.save_only_these_names(CONVOLUTION)
        return jax.checkpoint(objective, policy=keep)
    return objective


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    loss: Callable[[Array, Array], Array],
    target: str = "vocals",
    *,
    freeze_encoder: bool = False,
    over_patches: Callable[[Array, Array], Array] = losses.mean,
    rematerialise: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The training step of one device.

    `model` must average its BatchNorm statistics over `AXIS`. `loss` gives one value a patch, of the
    masked mixture and the `target`, one of `crops.TARGETS`. The returned function maps `(state, batch)` to
    the next state and the batch's loss; metrics accumulate in `state.totals`. With `freeze_encoder` the
    encoder's parameters stay as they are; no gradient of them is formed, and `optimizer` never sees them.
    `over_patches` and `rematerialise` as `make_objective` has them.
    """
    gradient = jax.value_and_grad(
        make_objective(model, loss, target, over_patches=over_patches, rematerialise=rematerialise),
        has_aux=True,
    )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        before = trained_params(state.params, freeze_encoder)
        (_, (batch_stats, means)), grads = gradient(before, state, batch)
        grads, means = lax.pmean((grads, means), AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params = state.params | optax.apply_updates(before, updates)

        means["grad_norm"] = optax.global_norm(grads)
        means["param_norm"] = optax.global_norm(params)
        means["update_norm"] = optax.global_norm(updates)
        finite = jnp.isfinite(means["loss"]) & jnp.isfinite(means["grad_norm"])
        seen = state.totals.nonfinite_step
        totals = Totals(
            steps=state.totals.steps + 1,
            sums=jax.tree.map(jnp.add, state.totals.sums, means),
            nonfinite_step=jnp.where((seen < 0) & ~finite, state.step + 1, seen),
        )
        return TrainState(state.step + 1, params, batch_stats, opt_state, totals), means["loss"]

    return train_step


def kept_bytes(objective: Callable[[Any, TrainState, Batch], Any], state: TrainState, batch: Batch) -> int:
    """Bytes that the backward pass of an objective keeps from the forward pass, without the parameters.

    Nothing is computed: arrays may be `jax.ShapeDtypeStruct`. It is what differentiation asks for; a
    compiler may get by with less.
    """

    def backward(trained: Any, state: TrainState, batch: Batch) -> Any:
        return jax.vjp(lambda x: objective(x, state, batch), trained, has_aux=True)[1]

    def size(tree: Any) -> int:
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    return size(jax.eval_shape(backward, state.params, state, batch)) - size(state.params)


def make_eval_step(
    model: Network, loss: Callable[[Array, Array], Array], target: str = "vocals"
) -> Callable[[Any, Batch], dict[str, Array]]:
    """The evaluation step of one device.

    The returned function maps `(variables, batch)`, `{"params": ..., "batch_stats": ...}` and patches, to
    sums over the patches whose weight is 1, over all devices, of each of `QUALITIES`, and their number
    under `patches`.
    """

    def eval_step(variables: Any, batch: Batch) -> dict[str, Array]:
        mask = model.apply(variables, batch.mixture)
        qualities = patch_qualities(loss, mask, batch, target)
        sums = {name: jnp.sum(values * batch.weight) for name, values in qualities.items()}
        return lax.psum(sums | {"patches": jnp.sum(batch.weight)}, AXIS)

    return eval_step
