import functools

import jax
import numpy as np
import pytest

from vocalsep_jax.models.unet import UNet, is_encoder
from vocalsep_jax.runs.checkpoints import named_arrays, save_model
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.training import transfer


@functools.cache
def shapes(width, depth):
    model = UNet(width, depth)
    return jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64), np.float32))


def variables(width=2, depth=5, seed=0):
    """Random variables of a network."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes(width, depth))


@pytest.fixture
def encoder(tmp_path):
    """A converted encoder: `(folder, its arrays)`."""
    part = transfer.encoder_part(variables(seed=1))
    (tmp_path / "encoder").mkdir()
    save_model(tmp_path / "encoder", part)
    return tmp_path / "encoder", part


def test_the_encoder_is_taken_and_the_decoder_is_fresh(encoder, caplog):
    caplog.set_level("INFO")
    folder, part = encoder
    fresh = variables()
    started = named_arrays(transfer.start_from_encoder(str(folder), fresh))
    assert started.keys() == named_arrays(fresh).keys()
    for name, x in started.items():
        origin = part if is_encoder(name.split("/")[1]) else fresh
        np.testing.assert_array_equal(x, named_arrays(origin)[name])
    for name, x in named_arrays(part).items():  # each is logged, with its shape
        (line,) = [row for row in caplog.text.splitlines() if row.strip().startswith(name + " ")]
        assert "x".join(map(str, x.shape)) in line


def test_a_whole_network_gives_its_encoder_too(tmp_path):
    whole = variables(seed=1)
    save_model(tmp_path, whole)
    started = transfer.start_from_encoder(str(tmp_path), variables())
    np.testing.assert_array_equal(started["params"]["down3"]["kernel"], whole["params"]["down3"]["kernel"])
    assert (started["params"]["up3"]["kernel"] != whole["params"]["up3"]["kernel"]).any()
    again = transfer.start_from_run(str(tmp_path), variables())
    jax.tree.map(np.testing.assert_array_equal, again, whole)


@pytest.mark.parametrize(("width", "depth"), [(3, 5), (2, 6)])
def test_an_encoder_of_other_sizes_is_refused_with_a_table(encoder, width, depth):
    folder, part = encoder
    with pytest.raises(RunError) as error:
        transfer.start_from_encoder(str(folder), variables(width, depth))
    lines = str(error.value).splitlines()
    assert "not of this network's sizes" in lines[0]
    wanted = named_arrays(transfer.encoder_part(variables(width, depth)))
    differing = [
        n
        for n, x in wanted.items()
        if n not in named_arrays(part) or named_arrays(part)[n].shape != x.shape
    ]
    assert [line.split()[0] for line in lines[2:]] == differing
    if width == 3:
        assert any("4x4x1x3" in line and "4x4x1x2" in line for line in lines)
    else:
        assert all("absent" in line for line in lines[2:])


def test_no_encoder_there(tmp_path):
    with pytest.raises(RunError, match="no such"):
        transfer.start_from_encoder(str(tmp_path / "none"), variables())
    with pytest.raises(RunError, match="holds no checkpoint"):
        transfer.start_from_encoder(str(tmp_path), variables())


def test_a_run_of_another_network_is_refused(tmp_path):
    save_model(tmp_path, variables(width=3))
    with pytest.raises(RunError, match=r"cannot be restored, it is of another network \(.* and \d+ more\)"):
        transfer.start_from_run(str(tmp_path), variables())
