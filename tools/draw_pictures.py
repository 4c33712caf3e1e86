"""Draw the pictures of the documentation again: a separation, the network, the way of a training sample.

    python tools/draw_pictures.py

writes docs/separation.png, docs/network.svg and docs/sample.svg. The song is a generated one, and the voice
is what the model that ships finds in it. Shapes in the drawings come from the code. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from vocalsep_jax import Separator
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.config import Config
from vocalsep_jax.data.crops import Batch, Crops, patches
from vocalsep_jax.data.synth.song import builtin_song
from vocalsep_jax.models.frontend import FREQUENCY_SCALES
from vocalsep_jax.models.networks import variable_shapes
from vocalsep_jax.runs.folder import find_checkpoint, find_run
from vocalsep_jax.runs.record import read_record

Shape = tuple[int, ...]

_RATE = 44_100
_SECONDS = 4.0
_HIGHEST_HZ = 4_000.0
_RANGE_DB = 72
_STEP_DB = 3  # few colours make a small file
_TIMES = "\N{MULTIPLICATION SIGN}"


# A separation


def spectrogram(samples: np.ndarray, stft: Stft) -> np.ndarray:
    """Magnitudes of the left channel in dB: `[F, N]` of samples `[S, C]`."""
    magnitude = np.abs(stft.analyse(samples)[0])
    return 20 * np.log10(np.maximum(magnitude, 1e-6))


def draw_separation(separator: Separator, seconds: float = _SECONDS) -> bytes:
    """A generated song, and the stems that a model gives of it: a PNG, to be read at 390 pixels too."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure
    from PIL import Image

    mixture = builtin_song(0, "test", 0, seconds).load(_RATE).mixture
    stems = separator.separate(mixture, _RATE)
    shown = {"mixture": mixture, "estimated voice": stems["vocals"], "estimated rest": stems["no_vocals"]}
    stft = Stft(2046, 512)  # fine frequencies, whatever the model's are
    pictures = {title: spectrogram(samples, stft) for title, samples in shown.items()}
    top = pictures["mixture"].max()
    colors = colormaps["magma"]
    norm = BoundaryNorm(np.arange(-_RANGE_DB, _STEP_DB, _STEP_DB), colors.N)

    figure = Figure(figsize=(7.8, 9), dpi=100, layout="constrained", facecolor="white")
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        # The first frame is in the middle of what is before the first sample.
        start = (-stft.n_fft / 2 - stft.hop / 2) / _RATE
        end = start + picture.shape[1] * stft.hop / _RATE
        image = axis.imshow(
            picture - top,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(start, end, 0, _RATE / 2000),
            cmap=colors,
            norm=norm,
        )
        axis.set_title(title, loc="left", fontsize=19)
        axis.tick_params(labelsize=16)
    axes[-1].set(xlim=(0, seconds), xticks=range(int(seconds) + 1), ylim=(0, _HIGHEST_HZ / 1000))
    axes[-1].set_xlabel("seconds", fontsize=17)
    figure.supylabel("kHz", fontsize=17)
    bar = figure.colorbar(image, ax=axes, aspect=40, ticks=range(-60, 1, 20), spacing="proportional")
    bar.set_label("dB", fontsize=17)
    bar.ax.tick_params(labelsize=16)
    bar.minorticks_off()

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    few = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(small, "png", optimize=True)
    return small.getvalue()


# Drawings


class Drawing:
    """An SVG with a light panel of its own, so that it is read on light and on dark pages."""

    WIDTH = 460  # narrow, with large letters: read on a telephone too

    def __init__(self, description: str):
        """Start one; `description` is for those who do not see it."""
        self._description = description
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, color: str, lines: Sequence[str]
    ) -> None:
        """A box with lines of text in its middle, as `text` has them."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" fill="{color}" '
            'stroke="#888"/>'
        )
        first = y + height / 2 - 18 * len(lines) / 2 + 14
        for n, line in enumerate(lines):
            self.text(x + width / 2, first + 18 * n, line, "middle")

    def text(self, x: float, y: float, line: str, anchor: str = "start") -> None:
        """A line of text. Its first character is its style: `b`old, `m`ono, `c`oloured mono, or a space."""
        style = {
            "b": 'font-size="15" font-weight="bold" fill="#222"',
            "m": 'font-size="14" font-family="monospace" fill="#222"',
            "c": 'font-size="14" font-family="monospace" fill="#1f5f9f"',
            " ": 'font-size="14" fill="#333"',
        }[line[0]]
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(line[1:])}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """An arrow through some points."""
        way = " ".join(f"{x:g},{y:g}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{way}" fill="none" stroke="#666" stroke-width="1.6"{dashes} '
            'marker-end="url(#a)"/>'
        )

    def svg(self, height: float) -> str:
        """The file's text."""
        size = f"{self.WIDTH} {height:g}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{self.WIDTH}" '
            f'height="{height:g}" font-family="sans-serif" role="img" '
            f"aria-label={quoteattr(self._description)}>"
        )
        marker = (
            '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0L10 5L0 10z" fill="#666"/></marker></defs>'
        )
        panel = f'<rect width="{self.WIDTH}" height="{height:g}" rx="10" fill="#fff"/>'
        return "\n".join([head, marker, panel, *self._parts, "</svg>"]) + "\n"


_DATA, _AUDIO, _MODEL, _MEASURE, _TRAINING = "#e9e2f3", "#e3ecec", "#f6dede", "#f6dede", "#dcebf7"
"""The rooms' colours in docs/architecture.svg."""


def of_shape(shape: Sequence[int]) -> str:
    """`[256, 256, 1]`."""
    return f"[{', '.join(map(str, shape))}]"


# The network


def block_shapes(config: Config) -> dict[str, Shape]:
    """The shape `(F, T, C)` of what each block of a config's network gives: `down1`, ..., `up7`.

    `input` is that of a magnitude on the network's scale of frequency, which the first block gets.
    """
    network: Any = config.network()
    patch = jax.ShapeDtypeStruct((1, *config.network_input), np.float32)
    variables = variable_shapes(network, config.network_input)

    def blocks(variables: Any, patch: Any) -> Any:
        return network.apply(variables, patch, mutable=["intermediates"])[1]["intermediates"]

    found = jax.eval_shape(blocks, variables, patch)
    shapes = {name.removesuffix("_block"): kept[0].shape[1:] for name, kept in found.items()}
    scale = FREQUENCY_SCALES[config.frequency_scale]
    seen = patch if scale is None else jax.eval_shape(lambda x: scale.to(x, config.frequency_bins), patch)
    return {"input": (*seen.shape[1:3], config.channels), **shapes}


def parameter_count(config: Config) -> int:
    """Of a config's network."""
    variables = variable_shapes(config.network(), config.network_input)
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


def draw_network(recipe: Config, ships: Config) -> str:
    """The U-Net with the shapes of two configs of the same depth: an SVG.

    Raises:
      ValueError: if their depths differ.
    """
    depth = recipe.model.depth
    if ships.model.depth != depth:
        raise ValueError(f"networks of {depth} and of {ships.model.depth} layers are not drawn together")
    shapes = block_shapes(recipe), block_shapes(ships)
    drawing = Drawing(f"The U-Net: {depth} layers down, {depth} up, joined by skips, with their shapes")

    left, right, width, height, step, top = 14, 276, 170, 64, 84, 14

    def box(x: float, row: int, title: str, name: str, color: str) -> None:
        lines = [f"b{title}", f"m{of_shape(shapes[0][name])}", f"c{of_shape(shapes[1][name])}"]
        drawing.box(x, top + row * step, width, height, color, lines)

    box(left, 0, "magnitude", "input", _AUDIO)
    box(right, 0, f"up {depth}: the mask", f"up{depth}", _MODEL)
    for row in range(1, depth):
        middle = top + row * step + height / 2
        box(left, row, f"down {row}", f"down{row}", _DATA)
        box(right, row, f"up {depth - row}", f"up{depth - row}", _MODEL)
        drawing.arrow((left + width, middle), (right, middle), dashed=True)
    bottom = (left + right) / 2
    box(bottom, depth, f"down {depth}", f"down{depth}", _DATA)
    for row in range(depth):
        above, below = top + row * step + height, top + (row + 1) * step
        if row < depth - 1:
            drawing.arrow((left + width / 2, above), (left + width / 2, below))
            drawing.arrow((right + width / 2, below), (right + width / 2, above))
    above, middle = top + (depth - 1) * step + height, top + depth * step + height / 2
    drawing.arrow((left + width / 2, above), (left + width / 2, middle), (bottom, middle))
    drawing.arrow((bottom + width, middle), (right + width / 2, middle), (right + width / 2, above))

    bins, seen = ships.patch[0], shapes[1]["input"][0]
    scale = [f"cwhose magnitudes have {bins:,} bins, seen as {seen}"] if bins != seen else []
    legend = [
        "bdown",
        f" convolution 4 {_TIMES} 4, stride 2; BatchNorm; LeakyReLU 0.2",
        "bup",
        f" transposed convolution 4 {_TIMES} 4, stride 2; BatchNorm;",
        " ReLU; the last has no BatchNorm, and a sigmoid",
        "bdashed",
        " joined, on channels, to what the up layer gives",
        "b[bins, frames, channels]",
        f"mconfigs/{recipe.name}.py: {parameter_count(recipe):,} parameters",
        f"cthe model that ships: {parameter_count(ships):,} parameters,"[: None if scale else -1],
        *scale,
    ]
    y = top + (depth + 1) * step + 8.0
    for line in legend:
        y += 22 if line[0] == "b" else 18
        drawing.text(left + 4, y, line)
    return drawing.svg(y + 16)


# The way of a training sample


def sample_shapes(config: Config) -> tuple[Shape, Batch]:
    """The shape `(C, S)` of a sample's crops, and those of what is made of them: fields `(F, T)`."""
    stft, channels = config.stft, config.channels
    samples = stft.samples(config.audio.patch_frames)

    def array(*shape: int, dtype: Any = np.float32) -> Any:
        return jax.ShapeDtypeStruct((1, *shape), dtype)

    crop, gains, none = array(2, samples, dtype=np.int16), array(channels, 2), array(0)
    crops = Crops(crop, crop, gains, gains, array(), none, none)
    made = jax.eval_shape(lambda crops: patches(crops, stft), crops)
    return (2, samples), Batch(*(field.shape[1:] for field in made))


PLACES: Mapping[str, Sequence[str]] = {
    "songs": ("data/songs.py", "data/prepared.py"),
    "plan": ("data/sampling.py", "data/augmentation.py"),
    "stft": ("audio/device_stft.py",),
    "patch": ("data/crops.py",),
    "network": ("models/unet.py",),
    "loss": ("measures/losses.py",),
    "dice": ("measures/metrics.py",),
    "step": ("training/step.py",),
}
"""Files of the package that the drawing of a sample's way names."""


def draw_sample(config: Config) -> str:
    """The way of a training sample, with the shapes of a config: an SVG."""
    crop, batch = sample_shapes(config)
    patch = of_shape(batch.mixture)
    drawing = Drawing("The way of a training sample from the song files to the loss")
    left, right, half, whole, space = 14, 236, 195, 417, 24
    edge = 448  # where the way around the network runs
    y = 14.0

    def named(place: str) -> list[str]:
        return [f"c{' · '.join(PLACES[place])}"]

    def row(color: str, *boxes: Sequence[str]) -> float:
        """One box over the whole width, or two; gives the middle's height."""
        nonlocal y
        height = 18 * max(map(len, boxes)) + 16
        for x, lines in zip((left, right), boxes, strict=False):
            drawing.box(x, y, half if len(boxes) == 2 else whole, height, color, lines)
        y += height + space
        return y - space - height / 2

    def down(*places: float) -> None:
        for x in places:
            drawing.arrow((x, y - space), (x, y))

    voice, other = left + half / 2, right + half / 2
    middle = left + whole / 2
    row(_DATA, ["bsong files", " vocals and accompaniment, as 16-bit integers", *named("songs")])
    down(middle)
    plan = ["bplan of sample i", " of seed and i alone: songs, places, gains, equalisers", *named("plan")]
    row(_DATA, plan)
    down(voice, other)
    row(
        _DATA,
        ["bcrop of the vocals", f"m{of_shape(crop)}", " where the voice sounds,", " or anywhere"],
        ["bcrop of the rest", f"m{of_shape(crop)}", " of the same place, or of", " another (remix)"],
    )
    down(voice, other)
    changes = [" which channel, left and", " right exchanged, level,", " polarity, width"]
    row(_DATA, [f"b{_TIMES} gains", *changes], [f"b{_TIMES} gains", *changes])
    down(voice, other)
    curve = f" {_TIMES} curve of its equaliser"
    row(_AUDIO, ["bSTFT: V", curve, *named("stft")], ["bSTFT: A", curve, *named("stft")])
    down(voice, other)
    made = row(
        _DATA,
        [
            "bmixture X = V + A, and the patch",
            f"m|X|, |V|, |A|: {patch} each",
            *named("patch"),
        ],
    )
    down(middle)
    row(_MODEL, ["bnetwork: |X| to the mask M", f"m{patch} from 0 to 1", *named("network")])
    down(voice, other)
    measured = row(
        _MEASURE,
        ["bloss", f" M {_TIMES} |X| against |V|,", " or the part in phase", *named("loss")],
        ["bDICE, soft DICE", " M against |V| and |A|:", " told, not minimised", *named("dice")],
    )
    around = [(left + whole, made), (edge, made), (edge, measured), (right + half, measured)]
    drawing.arrow(*around)
    # The loss needs the true magnitudes as well.
    drawing.arrow((left, made), (5, made), (5, measured), (left, measured))
    drawing.arrow((voice, y - space), (voice, y))
    row(
        _TRAINING,
        [
            "bstep",
            " gradient of the patches' mean loss, or mean logarithm;",
            " averaged over devices; the optimiser's update",
            *named("step"),
        ],
    )
    return drawing.svg(y - space + 14)


def shipped_config() -> Config:
    """The config of the model that ships."""
    return read_record(find_run(find_checkpoint())).config


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder (docs)")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    recipe = Config()
    (out / "network.svg").write_text(draw_network(recipe, shipped_config()), encoding="utf-8")
    (out / "sample.svg").write_text(draw_sample(recipe), encoding="utf-8")
    (out / "separation.png").write_bytes(draw_separation(Separator()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
