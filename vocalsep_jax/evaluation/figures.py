"""Figures of a report: scores of songs, their distributions over frames, spectrograms of clips.

They are read on light and on dark pages: lines and letters of drawings have the page's colour, those of
images a grey between.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.runtime.console import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#010203"  # stands for the page's colour until a drawing is written
_GREY = "#808488"
_DYNAMIC_RANGE_DB = 80.0
_MEL_ROWS = 192
_HIGHEST_HZ = 16_000.0
_MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
_STYLE_OF_SVG = "<style>svg{color:#1c2024}@media(prefers-color-scheme:dark){svg{color:#dde1e5}}</style>"


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, with nothing behind it."""
    from matplotlib.figure import Figure  # here: it takes a third of a second to import

    return Figure(figsize=(width, height), dpi=110, facecolor="none")


def _paint(figure: Figure, color: str) -> None:
    """Give all lines and letters of axes and legends one colour."""
    for axis in figure.axes:
        axis.set_facecolor("none")
        axis.tick_params(colors=color, which="both")
        axis.title.set_color(color)
        for part in (axis.xaxis.label, axis.yaxis.label):
            part.set_color(color)
        for spine in axis.spines.values():
            spine.set_edgecolor(color)
        legend = axis.get_legend()
        for text in legend.get_texts() if legend else ():
            text.set_color(color)


def _svg(figure: Figure) -> str:
    """The figure as the address of an SVG image that has the page's colour."""
    import matplotlib

    _paint(figure, _INK)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "vocalsep"}):  # the same figure is the same text
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    head, body = drawing.split(">", 1)
    content = base64.b64encode(f"{head}>{_STYLE_OF_SVG}{body}".encode()).decode("ascii")
    return f"data:image/svg+xml;base64,{content}"


def _webp(figure: Figure) -> str:
    """The figure as the address of a compressed image with nothing behind it."""
    _paint(figure, _GREY)
    image = io.BytesIO()
    figure.savefig(image, format="webp", pil_kwargs={"quality": 82})
    return "data:image/webp;base64," + base64.b64encode(image.getvalue()).decode("ascii")


def song_bars(scores: Mapping[str, Sequence[float | None]], songs: Sequence[str], bars: int) -> str:
    """The uSDR of the vocals of each song: bars of the first methods, marks of the others.

    Args:
      scores: by method, one value a song.
      songs: their names.
      bars: number of methods that have bars: the checkpoints.

    Returns:
      The address of an image.
    """
    rows, lines = np.arange(len(songs)), 0.28 * bars + 0.3
    figure = _figure(10, 1.3 + lines * len(songs))
    axis = figure.subplots()
    top = 1 - 0.75 / (1.3 + lines * len(songs))
    figure.subplots_adjust(left=0.27, right=0.98, bottom=0.5 / (1.3 + lines * len(songs)), top=top)
    thick = 0.7 / bars
    drawn: dict[str, Any] = {}
    for number, (name, values) in enumerate(scores.items()):
        numbers = np.array([np.nan if v is None else v for v in values], float)
        color = f"C{number % 10}"
        if number < bars:
            place = rows - 0.35 + thick * (number + 0.5)
            drawn[name] = axis.barh(place, np.nan_to_num(numbers), thick * 0.92, color=color)
        else:
            mark = _MARKS[(number - bars) % len(_MARKS)]
            (drawn[name],) = axis.plot(numbers, rows, mark, color=color, ms=5.5, mec=_GREY, mew=0.5)
    axis.set(yticks=rows, yticklabels=[_label(song) for song in songs], xlabel="vocals uSDR, dB")
    axis.invert_yaxis()
    axis.axvline(0, color=_GREY, linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(
        list(drawn.values()),  # given: else bars, which are no lines, come last
        [_label(name, 60) for name in drawn],
        ncols=4,
        loc="lower center",
        bbox_to_anchor=(0.36, 1.0),
        frameon=False,
        fontsize="small",
    )
    return _svg(figure)


def frame_distributions(frames: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Distributions over all frames of all songs: a panel a measure, a box a method.

    Boxes have the middle half and the median, whiskers the middle 90 %.

    Args:
      frames: by title of a panel and method, the values in dB that there are.

    Returns:
      The address of an image.
    """
    names = list(next(iter(frames.values())))
    height = 1.1 + 0.36 * len(names)
    figure = _figure(12, height)
    axes = figure.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.2, right=0.985, bottom=0.6 / height, top=1 - 0.42 / height, wspace=0.1)
    for axis, (title, by_method) in zip(axes, frames.items(), strict=True):
        for row, values in enumerate(by_method.values()):
            if len(values):
                axis.boxplot(**_box(values, row))
        axis.set(title=title, xlabel="dB", yticks=range(len(names)), yticklabels=map(_label, names))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="x", alpha=0.3)
    return _svg(figure)


def _box(values: Sequence[float], row: int) -> dict[str, Any]:
    """Arguments of a box of the method in a row."""
    color = f"C{row % 10}"
    return {
        "x": [list(values)],
        "positions": [row],
        "orientation": "horizontal",
        "widths": 0.6,
        "whis": (5, 95),
        "showfliers": False,
        "patch_artist": True,
        "boxprops": {"facecolor": color, "alpha": 0.75, "edgecolor": _INK, "linewidth": 0.8},
        "medianprops": {"color": _INK, "linewidth": 1.6},
        "whiskerprops": {"color": _INK},
        "capprops": {"color": _INK},
    }


def spectrograms(
    mixture: np.ndarray, vocals: np.ndarray, estimates: Mapping[str, np.ndarray], rate: int
) -> str:
    """Mixture, truth, estimate and error of a clip, side by side, on one scale.

    Args:
      mixture, vocals: `[S, C]`.
      estimates: by checkpoint, its vocals `[S, C]`; each has a row, with its error.
      rate: Hz.

    Returns:
      The address of an image.
    """
    rows = max(1, len(estimates))
    height = 0.75 + 2.35 * rows
    figure = _figure(13, height)
    axes = figure.subplots(rows, 4, squeeze=False)
    figure.subplots_adjust(
        left=0.045, right=0.93, bottom=0.5 / height, top=1 - 0.32 / height, wspace=0.06, hspace=0.32
    )
    given = {(0, 0): ("Mixture", mixture), (0, 1): ("True vocals", vocals)}
    for row, (name, estimate) in enumerate(estimates.items()):
        label = f": {_label(name, 18)}" if rows > 1 else ""
        given |= {(row, 2): (f"Estimate{label}", estimate), (row, 3): (f"Error{label}", vocals - estimate)}
    levels = {place: _levels(samples, rate) for place, (_, samples) in given.items()}
    top = float(max(np.max(x) for x in levels.values()))
    image = None
    for place, axis in zip(np.ndindex(rows, 4), axes.flat, strict=True):
        if place not in given:
            axis.set_axis_off()
            continue
        image = axis.imshow(
            levels[place],
            origin="lower",
            aspect="auto",
            extent=(0, len(mixture) / rate, 0, _MEL_ROWS),
            vmin=top - _DYNAMIC_RANGE_DB,
            vmax=top,
            cmap="magma",
        )
        axis.set_title(given[place][0], fontsize="medium")
        _frequency_ticks(axis, rate, labels=place[1] == 0 or (place[0] > 0 and place[1] == 2))
    if image is not None:
        scale = figure.colorbar(image, cax=figure.add_axes((0.94, 0.5 / height, 0.01, 1 - 0.82 / height)))
        scale.set_label("dB")
    return _webp(figure)


def _mel(hertz: Any) -> Any:
    """The mel scale of O'Shaughnessy 1987: `2595 log10(1 + f / 700)`."""
    return 2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700)


def _highest(rate: int) -> float:
    return min(rate / 2, _HIGHEST_HZ)


def _levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Levels in dB, averaged over channels, in rows even on the mel scale: `[_MEL_ROWS, N]`."""
    window = 2 ** max(5, round(np.log2(0.046 * rate)))
    padded = np.pad(samples, ((0, max(0, window - len(samples))), (0, 0))).astype(np.float32)
    power = np.mean(np.abs(Stft(window, window // 2).transform(padded.T)) ** 2, axis=0)
    mels = np.linspace(0, _mel(_highest(rate)), _MEL_ROWS)
    bins = (700 * (10 ** (mels / 2595) - 1)) * window / rate
    low = np.minimum(bins.astype(int), len(power) - 2)
    part = np.clip(bins - low, 0, 1)[:, None]
    return 10 * np.log10(np.maximum((1 - part) * power[low] + part * power[low + 1], 1e-10))


def _frequency_ticks(axis: Axes, rate: int, *, labels: bool) -> None:
    hertz = [x for x in (250, 500, 1000, 2000, 4000, 8000, 16_000) if x <= _highest(rate)]
    places = _mel(hertz) / _mel(_highest(rate)) * _MEL_ROWS
    axis.set(yticks=places, yticklabels=[f"{x / 1000:g}" for x in hertz], xlabel="seconds")
    axis.tick_params(labelleft=labels, labelsize="small")
    if labels:
        axis.set_ylabel("kHz")


def _label(name: str, length: int = 30) -> str:
    """A name of a song or a method as matplotlib shows it: short, on one line, and as it is.

    A dollar sign would begin a formula; a legend leaves out labels that begin with `_`, which therefore
    have a space of no width before it.
    """
    text = one_line(name)
    text = text if len(text) <= length else text[: length - 1] + "…"
    return ("\N{ZERO WIDTH SPACE}" if text.startswith("_") else "") + text.replace("$", r"\$")
