"""A picture of the songs in a folder: lengths, where the voice sounds, levels; a line a song."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vocalsep_jax.data.check.examination import Examination
from vocalsep_jax.data.check.song import SongReport
from vocalsep_jax.data.sampling import VOICED_BLOCK_SECONDS
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"train": "#1f6fb4", "valid": "#d1541d", "test": "#5a8f3c"}
_VOICE, _BAND = "#8a2f8f", "#777777"
_ROW, _TALLEST = 0.32, 60.0  # inches
_NAME = 40
_COLUMNS = 600
_RANGE_DB = 30.0  # as far as a voiced block may lie below the loudest
_QUIETEST_DB = -70.0


def draw(examination: Examination) -> Figure:
    """The figure of an examination; it needs matplotlib."""
    from matplotlib.figure import Figure  # here: it takes a third of a second to import

    reports = examination.reports
    row = min(_ROW, _TALLEST / max(1, len(reports)))
    above, below = 0.8, 1.0  # inches
    height = max(1, len(reports)) * row + above + below
    figure = Figure(figsize=(16, height), dpi=110)
    lengths, voice, levels = figure.subplots(1, 3, sharey=True, width_ratios=(1.1, 2.2, 1.7))
    figure.subplots_adjust(
        left=0.21, right=0.985, bottom=below / height, top=1 - above / height, wspace=0.04
    )
    _lengths(lengths, reports)
    _voice(voice, reports)
    _levels(levels, reports)
    _names(lengths, examination, 72 * row * 0.75)
    for axis in (lengths, levels):
        _finish(axis, height - above - below)
    _color_bar(figure, voice, height)
    lengths.set_ylim(max(1, len(reports)) - 0.5, -0.5)
    figure.suptitle(_title(examination), y=1 - 0.2 / height, va="center")
    return figure


def save(examination: Examination, path: Path) -> None:
    """Draw into a PNG file, whole or not at all; raises OSError."""
    figure = draw(examination)
    with disk.replacing(path) as partial:
        figure.savefig(partial, format="png")


def _title(examination: Examination) -> str:
    errors = sum(problem.error for problem in examination.problems)
    state = "fit to train on" if examination.fit else "not fit to train on"
    return (
        f"{_label(str(examination.root.name or examination.root))}: "
        f"{len(examination.reports)} songs, {state}, "
        f"{errors} errors, {len(examination.problems) - errors} warnings"
    )


def _names(axis: Axes, examination: Examination, row: float) -> None:
    """Names of songs, red where there is an error, brown where there is a warning."""
    severity: dict[str, bool] = {}
    for problem in examination.problems:
        name = problem.song.partition("/")[2] if problem.kind in ("leak", "duplicate") else problem.song
        severity[name] = severity.get(name, False) or problem.error
    names = [report.song.name for report in examination.reports]
    axis.set_yticks(range(len(names)), map(_label, names), fontsize=min(9.0, row))
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        if name in severity:
            label.set_color("#c0161d" if severity[name] else "#9a6200")


def _label(name: str) -> str:
    """A name as matplotlib shows it: short, on one line, and as it is: a dollar sign begins a formula."""
    text = one_line(name)
    text = text if len(text) <= _NAME else text[: _NAME - 1] + "…"
    return text.replace("$", r"\$")


def _lengths(axis: Axes, reports: list[SongReport]) -> None:
    for split, color in _COLORS.items():
        rows = [n for n, report in enumerate(reports) if report.song.split == split]
        if rows:
            axis.barh(rows, [reports[n].seconds / 60 for n in rows], 0.7, color=color, alpha=0.35)
            voiced = [reports[n].voiced_seconds / 60 for n in rows]
            axis.barh(rows, voiced, 0.7, color=color, label=f"{split}, with voice")
    axis.set(title="Length", xlabel="minutes", xlim=(0, None))
    axis.tick_params(axis="y", length=0)


def _voice(axis: Axes, reports: list[SongReport]) -> None:
    """Each song's voice over time, dB below its loudest block; white where it rests."""
    longest = max((report.seconds for report in reports), default=0.0) or 1.0
    image = np.full((max(1, len(reports)), _COLUMNS), np.nan, np.float32)
    for line, report in zip(image, reports, strict=False):
        blocks = len(report.active)
        if not blocks:
            continue
        columns = max(1, round(blocks * VOICED_BLOCK_SECONDS / longest * _COLUMNS))
        loudest = report.voice_db[report.active].max(initial=-np.inf)
        relative = np.where(report.active, report.voice_db, -np.inf)
        bounds = np.arange(columns) * blocks // columns
        column = np.maximum.reduceat(relative, bounds)
        line[:columns][np.isfinite(column)] = column[np.isfinite(column)] - loudest
    axis.imshow(
        image,
        aspect="auto",
        interpolation="nearest",
        extent=(0, longest / 60, len(image) - 0.5, -0.5),
        vmin=-_RANGE_DB,
        vmax=0,
        cmap="viridis_r",
    )
    for row, report in enumerate(reports):  # white between the songs, and a line as long as each
        axis.axhline(row + 0.5, color="white", linewidth=5)
        axis.plot([0, report.seconds / 60], [row + 0.5] * 2, color="#999999", linewidth=0.8)
    axis.set(title="Voice, dB below the loudest quarter of a second", xlabel="minutes")
    axis.tick_params(axis="y", length=0)


def _color_bar(figure: Figure, axis: Axes, height: float) -> None:
    """The scale of the panel's colors, in the margin of a figure of so many inches below it."""
    box = axis.get_position()
    place = (box.x0 + 0.3 * box.width, box.y0 - 0.62 / height, 0.4 * box.width, 0.1 / height)
    figure.colorbar(axis.images[0], cax=figure.add_axes(place), orientation="horizontal")


def _levels(axis: Axes, reports: list[SongReport]) -> None:
    """RMS (dot) to peak (bar) of vocals and of accompaniment."""
    for stem, color, shift in (("vocals", _VOICE, -0.16), ("accompaniment", _BAND, 0.16)):
        rows, rms, peaks = [], [], []
        for row, report in enumerate(reports):
            levels = report.levels.get(stem) or (report.levels.get("mixture") if shift > 0 else None)
            if levels and levels.rms_db is not None and levels.peak_db is not None:
                rows.append(row + shift)
                rms.append(max(levels.rms_db, _QUIETEST_DB))
                peaks.append(max(levels.peak_db, _QUIETEST_DB))
        label = stem if shift < 0 else "accompaniment (or mixture)"
        axis.hlines(rows, rms, peaks, color=color, linewidth=1.2, alpha=0.7)
        axis.plot(rms, rows, "o", color=color, ms=4, label=f"{label}: RMS, to peak")
        axis.plot(peaks, rows, "|", color=color, ms=6)
    axis.axvline(0, color="#c0161d", linewidth=0.8)
    axis.set(title="Levels", xlabel="dBFS", xlim=(None, 3))
    axis.tick_params(axis="y", length=0)


def _finish(axis: Axes, height: float) -> None:
    """A grid, and a legend below a panel of so many inches, where it hides nothing."""
    axis.grid(axis="x", alpha=0.3)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.42 / height),
            ncols=4,
            fontsize=8,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.0,
        )
