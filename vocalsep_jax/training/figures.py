"""Figures of a run: its curves, and a predicted spectrogram beside the desired one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vocalsep_jax.measures.metrics import PATCH_METRICS
from vocalsep_jax.runtime import disk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DYNAMIC_RANGE_DB = 80.0
_TRAIN, _VALID = "#1f6fb4", "#d1541d"


@dataclass(frozen=True)
class Snapshot:
    """What the figures of a run are drawn from.

    Attributes:
      name, run: names of the config and of the run's folder.
      step: steps taken.
      history: lines of `history.jsonl`.
      mixture, vocals: magnitudes `[F, T]` of a validation patch.
      mask, ideal: its predicted mask and ideal ratio mask `[F, T]` in [0, 1].
      sample_rate: Hz.
      hop: samples from one frame to the next.
    """

    name: str
    run: str
    step: int
    history: Sequence[Mapping[str, Any]]
    mixture: np.ndarray
    vocals: np.ndarray
    mask: np.ndarray
    ideal: np.ndarray
    sample_rate: int
    hop: int


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure  # here: it takes a third of a second to import

    return Figure(figsize=(width, height), dpi=110)


def epoch_means(history: Sequence[Mapping[str, Any]], quality: str) -> tuple[list, list]:
    """Mean of a quality over each epoch's training intervals: epochs passed, and values.

    An interval counts as much as it has steps; an epoch under way counts as far as it has come.
    """
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for line in history:
        if line["kind"] == "train":
            groups.setdefault(int(np.ceil(line["epoch"] - 1e-9)), []).append(line)
    epochs, values = [], []
    for lines in groups.values():
        weights = [x["steps"] for x in lines]
        epochs.append(lines[-1]["epoch"])
        values.append(float(np.average([x[quality] for x in lines], weights=weights)))
    return epochs, values


def curves(snapshot: Snapshot) -> Figure:
    """Loss, metrics of patches and SDR against epochs, training and validation."""
    history = snapshot.history
    panels = {"loss": "Loss"} | {name: metric.title for name, metric in PATCH_METRICS.items()}
    rows = (len(panels) + 2) // 2
    figure = _figure(11, 3.75 * rows)
    axes = figure.subplots(rows, 2)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.07, top=0.9, wspace=0.15, hspace=0.3)
    valid = [line for line in history if line["kind"] == "valid"]
    train = [line for line in history if line["kind"] == "train"]
    for axis, (quality, name) in zip(axes.flat, panels.items(), strict=False):
        x, y = [p["epoch"] for p in train], [p[quality] for p in train]
        axis.plot(x, y, color=_TRAIN, alpha=0.25, linewidth=1)
        axis.plot(*epoch_means(history, quality), "o-", color=_TRAIN, ms=3, label="training")
        x, y = [p["epoch"] for p in valid], [p[quality] for p in valid]
        axis.plot(x, y, "o-", color=_VALID, ms=3, label="validation")
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    for axis in axes.flat[len(panels) + 1 :]:
        axis.set_axis_off()
    axis = axes.flat[len(panels)]
    scored = [p for p in valid if p.get("sdr") is not None]
    x = [p["epoch"] for p in scored]
    axis.plot(x, [p["sdr"] for p in scored], "o-", color=_VALID, ms=3, label="separated")
    for name, style in (("mixture", ":"), ("silence", "--"), ("ideal", "-.")):
        if scored:
            level = scored[-1][f"sdr_{name}"]
            label = f"{'ideal ratio mask' if name == 'ideal' else name} ({level:.1f} dB)"
            axis.axhline(level, color="#555555", linestyle=style, linewidth=1, label=label)
    axis.set(title="Vocals uSDR of a validation song, dB", xlabel="epoch")
    axis.grid(alpha=0.3)
    if scored:
        axis.legend()
    figure.suptitle(f"{snapshot.name}: {snapshot.run}")
    return figure


def comparison(histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], title: str) -> Figure:
    """Training loss, validation loss, DICE and SDR of several configs, each trained with several seeds.

    Lines are means over runs; bands go from the least to the greatest.

    Args:
      histories: for each config, the histories of its runs.
      title: title of the figure.
    """
    figure = _figure(16, 5)
    axes = figure.subplots(1, 4)
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.2, top=0.86, wspace=0.2)
    panels = (
        ("train", "loss", "Training loss"),
        ("valid", "loss", "Validation loss"),
        ("valid", "dice", "Validation DICE"),
        ("valid", "sdr", "Validation uSDR, dB"),
    )
    for axis, (kind, quality, name) in zip(axes, panels, strict=True):
        for number, (config, runs) in enumerate(histories.items()):
            epochs, values = over_seeds(runs, quality, kind)
            if not epochs:
                continue
            color = f"C{number}"
            axis.plot(epochs, values.mean(axis=0), "o-", color=color, ms=3, label=config)
            axis.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0
            )
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.3)
    if axes[1].lines:
        figure.legend(*axes[1].get_legend_handles_labels(), loc="lower center", ncols=len(histories))
    figure.suptitle(title)
    return figure


def over_seeds(
    runs: Sequence[Sequence[Mapping[str, Any]]], quality: str, kind: str = "valid"
) -> tuple[list[float], np.ndarray]:
    """A quality at the validations (or log lines) that all runs have: epochs, values `[runs, epochs]`."""
    found = [{line["epoch"]: line for line in run if line["kind"] == kind} for run in runs]
    epochs = sorted(set.intersection(*(set(f) for f in found))) if found else []
    return epochs, np.array([[f[e][quality] for e in epochs] for f in found], float)


def prediction(snapshot: Snapshot) -> Figure:
    """Predicted beside desired: vocals spectrograms on one dB scale, masks on another."""
    mixture, vocals, mask, ideal = snapshot.mixture, snapshot.vocals, snapshot.mask, snapshot.ideal
    sample_rate, hop = snapshot.sample_rate, snapshot.hop
    frames = mixture.shape[1]
    extent = (0.0, frames * hop / sample_rate, 0.0, sample_rate / 2000)
    top = _decibels(mixture).max()
    figure = _figure(13, 7.5)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.05, right=0.91, bottom=0.07, top=0.9, wspace=0.3, hspace=0.3)

    def show(place: tuple[int, int], values: np.ndarray, name: str, **options: Any) -> Any:
        axis = axes[place]
        axis.set(title=name, xlabel="seconds", ylabel="kHz" if place[1] == 0 else "")
        axis.tick_params(labelleft=place[1] == 0)
        return axis.imshow(values, origin="lower", aspect="auto", extent=extent, **options)

    def scale(image: Any, row: int, label: str, left: float = 0.93) -> None:
        box = axes[row, 0].get_position()
        figure.colorbar(image, cax=figure.add_axes((left, box.y0, 0.012, box.height)), label=label)

    levels: dict[str, Any] = {"vmin": top - _DYNAMIC_RANGE_DB, "vmax": top, "cmap": "magma"}
    predicted = mask * mixture
    show((0, 0), _decibels(mixture), "Mixture", **levels)
    show((0, 1), _decibels(predicted), "Predicted vocals", **levels)
    scale(show((0, 2), _decibels(vocals), "Desired vocals", **levels), 0, "magnitude, dB")

    error = np.where(
        _decibels(mixture) > top - _DYNAMIC_RANGE_DB, _decibels(predicted) - _decibels(vocals), 0.0
    )
    image = show((1, 0), error, "Predicted minus desired", vmin=-30, vmax=30, cmap="RdBu_r")
    scale(image, 1, "dB", left=axes[1, 0].get_position().x1 + 0.005)
    show((1, 1), _mask_decibels(mask), "Predicted mask", vmin=-40, vmax=0)
    image = show((1, 2), _mask_decibels(ideal), "Ideal ratio mask", vmin=-40, vmax=0)
    scale(image, 1, "mask, dB")
    figure.suptitle(f"{snapshot.name}: a validation patch after {snapshot.step} steps")
    return figure


FIGURES: dict[str, Callable[[Snapshot], Figure]] = {"curves": curves, "prediction": prediction}
"""What is drawn, at each checkpoint, into `figures/<name>.png`."""


def draw(figure: Figure) -> np.ndarray:
    """The figure as pixels, uint8 `[H, W, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def save(pixels: np.ndarray, path: Path) -> None:
    """Write pixels `[H, W, 3]` as a PNG, whole or not at all."""
    from matplotlib.image import imsave

    with disk.replacing(path) as partial, partial.open("wb") as file:
        imsave(file, pixels, format="png")


def _decibels(magnitude: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(magnitude, 1e-6))


def _mask_decibels(mask: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(mask, 1e-3))
