import hashlib
import io
import json
import os
import warnings
import zipfile

import numpy as np
import pytest

from vocalsep_jax.runs.exported import is_exported, read_facts, read_weights, write_weights
from vocalsep_jax.runs.folder import RunError

ARRAYS = {
    "params/down1/kernel": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "params/down1/bias": np.float32([0.1, 1e-9]),
    "batch_stats/down1_norm/var": np.float32([1e6, 0.1]),
}


def write(folder, arrays=ARRAYS, dtype="float16"):
    """A model's weights and facts; gives their checksum."""
    checksum = write_weights(folder, arrays, dtype)
    (folder / "model.json").write_text(json.dumps({"step": 7, "weights": {"sha256": checksum}}))
    return checksum


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_written_is_read(tmp_path, dtype):
    assert not is_exported(tmp_path)
    checksum = write(tmp_path, dtype=dtype)
    assert is_exported(tmp_path)
    assert checksum == hashlib.sha256((tmp_path / "weights.npz").read_bytes()).hexdigest()
    tree, step = read_weights(tmp_path)
    assert step == 7
    kernel = tree["params"]["down1"].pop("kernel")
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, ARRAYS["params/down1/kernel"].astype(dtype).astype(np.float32))
    # What has one axis is kept as it is: a variance may be larger than float16 holds, a bias smaller.
    np.testing.assert_array_equal(tree["params"]["down1"].pop("bias"), ARRAYS["params/down1/bias"])
    np.testing.assert_array_equal(tree["batch_stats"]["down1_norm"]["var"], np.float32([1e6, 0.1]))
    assert tree["params"] == {"down1": {}}


def test_the_same_arrays_make_the_same_file(tmp_path):
    assert write(tmp_path) == write(tmp_path)


@pytest.mark.parametrize("value", [1e5, np.inf, np.nan])
def test_numbers_that_cannot_be_stored(tmp_path, value):
    with pytest.raises(RunError, match="params/x/kernel holds values that are not finite as float16"):
        write(tmp_path, {"params/x/kernel": np.full((2, 2), value, np.float32)})
    assert not is_exported(tmp_path)


def told(read, folder):
    """The error of reading, which is one line."""
    with pytest.raises(RunError) as error:
        read(folder)
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("where", [0, 200, -1])
def test_a_byte_that_changed(tmp_path, where):
    write(tmp_path)
    content = bytearray((tmp_path / "weights.npz").read_bytes())
    content[where] ^= 1
    (tmp_path / "weights.npz").write_bytes(content)
    reason = "damaged, its SHA-256 is not the one in model.json; get the model again"
    assert told(read_weights, tmp_path) == f"{tmp_path / 'weights.npz'}: {reason}"


def test_a_file_that_is_cut_off_or_missing(tmp_path):
    write(tmp_path)
    content = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(content[:-9])
    assert "damaged" in told(read_weights, tmp_path)
    (tmp_path / "weights.npz").unlink()
    assert told(read_weights, tmp_path).endswith("weights.npz: No such file or directory")
    (tmp_path / "model.json").unlink()
    assert told(read_weights, tmp_path).endswith("model.json: No such file or directory")


def archive(*members, compression=zipfile.ZIP_STORED):
    """A zip archive of names and contents."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def says(shape):
    """The header of an array of that shape, and nothing behind it."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


ONE = npy(np.ones(3, np.float32))
NO_WEIGHTS = {
    "empty": b"",
    "text": b"text",
    "objects": archive(("x.npy", npy(np.array([{}], object)))),
    "float64": archive(("x.npy", npy(np.ones(3)))),
    "terabytes": archive(("x.npy", says((2**40,)))),
    "too short": archive(("x.npy", says((3,)))),
    "a header of brackets": archive(("x.npy", says("[" * 5000))),
    "a bomb": archive(("x.npy", says((2**26,)) + bytes(2**28)), compression=zipfile.ZIP_DEFLATED),
    "twice": archive(("x.npy", ONE), ("x.npy", ONE)),
    "in an array": archive(("x.npy", ONE), ("x/y.npy", ONE)),
    "in the way": archive(("x/y.npy", ONE), ("x.npy", ONE)),
}


@pytest.mark.parametrize("content", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_files_that_are_no_weights(tmp_path, content):
    """Their checksum is right; nothing in them is run, nor takes more memory than the file."""
    (tmp_path / "weights.npz").write_bytes(content)
    facts = {"step": 7, "weights": {"sha256": hashlib.sha256(content).hexdigest()}}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    assert "weights.npz: not the weights of a model" in told(read_weights, tmp_path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "damaged (Expecting property name"),
        ("[]", "damaged (it holds no object)"),
        ("{}", "tells neither step nor checksum"),
        ('{"step": 3, "weights": 3}', "tells neither step nor checksum"),
        ('{"step": Infinity, "weights": {"sha256": ""}}', "tells neither step nor checksum"),
    ],
)
def test_facts_that_are_damaged(tmp_path, facts, message):
    write(tmp_path)
    (tmp_path / "model.json").write_text(facts)
    assert message in told(read_weights, tmp_path)
    if "damaged" in message:
        assert message in told(read_facts, tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_facts_that_are_no_file(tmp_path, make):
    make(tmp_path / "model.json")
    assert told(read_facts, tmp_path).endswith("model.json: is not a file")


def test_arrays_by_columns_are_read(tmp_path):
    kernel = np.asfortranarray(ARRAYS["params/down1/kernel"])
    write(tmp_path, {"params/down1/kernel": kernel}, "float32")
    np.testing.assert_array_equal(read_weights(tmp_path)[0]["params"]["down1"]["kernel"], kernel)
