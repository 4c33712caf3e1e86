import functools
import io
import re
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest

from configs import base
from tests.conftest import ROOT, random_variables
from tools import draw_pictures as tool
from vocalsep_jax import Separator
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.config import Config, parse
from vocalsep_jax.models.unet import layer_channels

SMALL = {"audio": {"n_fft": 62, "hop": 21, "patch_frames": 64}, "model": {"width": 2, "depth": 5}}
STEREO = {
    "audio": {"n_fft": 126, "hop": 21, "patch_frames": 32},
    "data": {"channels": "stereo"},
    "model": {"width": 3, "depth": 5},
    "frequency_scale": "zoned",
    "frequency_bins": 32,
}


def texts(svg):
    """The lines of a drawing, from top to bottom; parsing it proves that it is well-formed."""
    root = ET.fromstring(svg)
    found = root.iter("{http://www.w3.org/2000/svg}text")
    return [e.text for e in sorted(found, key=lambda e: float(e.get("y")))]


def shapes_in(svg):
    """By title of its box, the two shapes that are written below it."""
    root = ET.fromstring(svg)
    columns = {}
    for e in root.iter("{http://www.w3.org/2000/svg}text"):
        columns.setdefault(e.get("x"), []).append((float(e.get("y")), e.text))
    found = {}
    for lines in columns.values():
        lines = [text for _, text in sorted(lines)]
        for n, line in enumerate(lines[:-2]):
            if line.startswith(("down ", "up ", "magnitude")):
                shapes = (tuple(map(int, re.findall(r"\d+", text))) for text in lines[n + 1 : n + 3])
                found[line.split(":")[0]] = tuple(shapes)
    return found


def expected_shapes(bins, frames, width, depth, channels):
    """Each layer down halves both sides, each layer up doubles them."""
    down, up = layer_channels(width, depth)
    sides = [(bins >> n, frames >> n) for n in range(depth + 1)]
    expected = {"magnitude": (*sides[0], channels)}
    expected |= {f"down {n}": (*sides[n], down[n - 1]) for n in range(1, depth + 1)}
    return expected | {
        f"up {n}": (*sides[depth - n], up[n - 1] if n < depth else channels) for n in range(1, depth + 1)
    }


def test_the_networks_shapes_are_those_of_the_model_and_of_the_recipe():
    ships = tool.shipped_config()
    found = shapes_in(tool.draw_network(Config(), ships))
    recipe = expected_shapes(256, 256, 64, 7, 1)
    other = expected_shapes(ships.frequency_bins, 128, 16, 7, 2)
    assert found == {name: (recipe[name], other[name]) for name in recipe}
    assert recipe["down 7"] == (2, 2, 512)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [SMALL, STEREO])
def test_shapes_and_parameters_are_those_of_a_network_that_runs(fields):
    config = parse(fields)
    network = config.network()
    variables = random_variables(network, config.network_input)
    patch = np.ones((1, *config.network_input), np.float32)
    apply = jax.jit(functools.partial(network.apply, mutable=["intermediates"]))
    mask, kept = apply(variables, patch)
    expected = {k.removesuffix("_block"): v[0].shape[1:] for k, v in kept["intermediates"].items()}
    found = tool.block_shapes(config)
    assert found.pop("input") == (32, *mask.shape[2:3], config.channels)
    assert found == expected
    assert tool.parameter_count(config) == sum(map(np.size, jax.tree.leaves(variables["params"])))


def test_the_networks_of_a_drawing_have_the_same_depth():
    with pytest.raises(ValueError, match="networks of 7 and of 5 layers"):
        tool.draw_network(Config(), parse(SMALL))


def test_the_numbers_below_the_network():
    lines = texts(tool.draw_network(Config(), tool.shipped_config()))
    assert "configs/base.py: 41,828,481 parameters" in lines  # the published size
    facts = (ROOT / "vocalsep_jax" / "shipped" / "vocals" / "model.json").read_text()
    (count,) = re.findall(r'"parameters": (\d+)', facts)
    assert f"the model that ships: {int(count):,} parameters," in lines
    assert "whose magnitudes have 1,024 bins, seen as 512" in lines


def test_the_recipe_is_the_config_that_is_named():
    assert parse(base.get_config()) == Config()


def test_the_samples_shapes_are_those_that_crops_have():
    crop, batch = tool.sample_shapes(parse(STEREO))
    assert crop == (2, 126 + 31 * 21)
    assert batch.mixture == (64, 32, 2)
    assert batch.weight == ()
    lines = texts(tool.draw_sample(Config()))
    assert lines.count(f"[2, {510 + 255 * 172}]") == 2
    assert "|X|, |V|, |A|: [256, 256] each" in lines


def test_files_that_the_samples_way_names_are_there():
    named = [name for names in tool.PLACES.values() for name in names]
    drawn = " ".join(texts(tool.draw_sample(Config())))
    for name in named:
        assert (ROOT / "vocalsep_jax" / name).is_file(), name
        assert name in drawn


def letters(line):
    """About how wide a line is, in pixels of the drawing."""
    return len(line) * 8.5


@pytest.mark.parametrize("name", ["network.svg", "sample.svg"])
def test_the_drawings_in_the_documentation_are_the_present_ones(name):
    draw = {
        "network.svg": lambda: tool.draw_network(Config(), tool.shipped_config()),
        "sample.svg": lambda: tool.draw_sample(Config()),
    }[name]
    committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert committed == draw(), "python tools/draw_pictures.py draws it again"
    assert all(letters(line) < tool.Drawing.WIDTH for line in texts(committed))
    root = ET.fromstring(committed)
    panel = next(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert panel.get("fill") == "#fff"  # it is read on dark pages, too
    assert root.get("aria-label")


def test_a_spectrogram_in_decibels():
    stft = Stft(512, 128)  # a sine of full scale in the middle of a bin gives half of the window's sum
    sine = np.sin(2 * np.pi * 32 / 512 * np.arange(4096)).astype(np.float32)
    picture = tool.spectrogram(np.stack([sine, 0 * sine], axis=1), stft)
    assert picture[32, 10] == pytest.approx(20 * np.log10(512 / 4), abs=0.01)
    assert np.argmax(picture[:, 10]) == 32


@pytest.mark.slow
def test_the_separation_is_a_small_picture_and_the_same_every_time(run):
    pytest.importorskip("matplotlib", reason="needs the train extra")
    image = pytest.importorskip("PIL.Image")
    drawn = [tool.draw_separation(Separator(run), 1.0) for _ in range(2)]
    assert drawn[0] == drawn[1]
    width, height = image.open(io.BytesIO(drawn[0])).size
    committed = (ROOT / "docs" / "separation.png").read_bytes()
    assert image.open(io.BytesIO(committed)).size == (width, height) == (780, 900)
    assert len(committed) < 250_000


def test_the_command_writes_all_three(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "Separator", lambda: None)
    monkeypatch.setattr(tool, "draw_separation", lambda separator: b"png")
    assert tool.main(["--out", str(tmp_path / "new")]) == 0
    written = sorted(p.name for p in (tmp_path / "new").iterdir())
    assert written == ["network.svg", "sample.svg", "separation.png"]
