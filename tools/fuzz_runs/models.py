"""Exported models that are damaged, by chance or on purpose."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.configs import check_stems, separate_command, separated
from tools.fuzz_runs.damage import damage_folder
from tools.fuzz_runs.evil import Evil
from tools.fuzz_runs.templates import arrays_of, fresh_state
from tools.fuzz_runs.values import alter_json
from tools.fuzzing import damage
from vocalsep_jax.list_models import describe
from vocalsep_jax.runs.checkpoints import named_arrays, read_model, restore_model
from vocalsep_jax.runs.exported import FACTS, WEIGHTS
from vocalsep_jax.runs.folder import RunError

_NAMES = ("../../x", "/x", "", "a//b", "params", "params/down1", "params/down1/kernel/x", "a\nb", "\ud800")
_DTYPES = ("float64", "int8", "complex64", "bool", "S4", "U2", "datetime64[s]", ">f4", "V8")
_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 3000 + "), }",
    "{'descr': __import__('tools.fuzz_runs.canary'), 'fortran_order': False, 'shape': (1,), }",
    "[" * 5000,
)


def attempt(case: Case) -> Attempt:
    """A model with something wrong, and one of those that read it."""
    model = case.folder / "model"
    dtype = case.pick(("float32", "float16"))
    shutil.copytree(case.templates / f"model {dtype}", model)
    harm = case.pick((_anywhere, _facts, *(_bytes,) * 2, *(_arrays,) * 3, *(_crafted,) * 3))
    case.kinds.append(harm.__name__.strip("_"))
    before = (model / WEIGHTS).read_bytes()
    harm(case, model)
    if case.chance(0.75):
        _correct_checksum(model)
    way = case.pick(("read", "read", "restored", "described", "separated"))
    case.kinds.append(way)
    if way == "described":
        return Attempt(lambda: describe(model), (RunError,))
    if way == "separated":
        if case.chance(0.2):
            return separate_command(case, model)
        return Attempt(lambda: separated(model), (RunError,), check_stems)
    original = arrays_of(case.templates / f"model {dtype}")
    unchanged = (model / WEIGHTS).is_file() and (model / WEIGHTS).read_bytes() == before

    def check(read: tuple) -> str | None:
        found = named_arrays(read[0])
        if not all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in found.values()):
            return "the weights are not all of float32"
        if way == "restored" and not all(np.isfinite(x).all() for x in found.values()):
            return "weights are not finite"
        if unchanged and not all(np.array_equal(found[name], x) for name, x in original.items()):
            return "the weights are not those that were written"
        return None

    if way == "read":
        return Attempt(lambda: read_model(model), (RunError,), check)
    return Attempt(lambda: restore_model(model, fresh_state().variables), (RunError,), check)


def _anywhere(case: Case, model: Path) -> None:
    damage_folder(case, model)


def _facts(case: Case, model: Path) -> None:
    alter_json(case, model / FACTS)


def _bytes(case: Case, model: Path) -> None:
    case.kinds.append(f"weights: {damage(case, model / WEIGHTS)}")


def _arrays(case: Case, model: Path) -> None:
    """Arrays that are others than they should be, in a file as it should be."""
    with np.load(model / WEIGHTS) as file:
        arrays = dict(file)
    name = case.pick(list(arrays))
    how = case.pick(("nan", "dtype", "dtype", "shape", "order", "missing", "more", "name", "objects"))
    case.kinds.append(f"array: {how}")
    if how == "nan":
        arrays[name] = np.full_like(arrays[name], case.pick((np.nan, np.inf)))
    elif how == "dtype":
        arrays[name] = np.ones(arrays[name].shape, case.pick(_DTYPES))
    elif how == "shape":
        arrays[name] = np.ones(case.pick(((), (0,), (3, 5), (1,) * 40)), np.float32)
    elif how == "order":
        arrays[name] = np.asfortranarray(arrays[name])
    elif how == "missing":
        del arrays[name]
    elif how == "more":
        arrays[case.pick(_NAMES).replace("\ud800", "?")] = np.ones(2, np.float32)
    elif how == "name":
        arrays[case.pick(_NAMES).replace("\ud800", "?")] = arrays.pop(name)
    else:
        arrays[name] = np.array([Evil(case.canary)], object)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (model / WEIGHTS).write_bytes(buffer.getvalue())


def _crafted(case: Case, model: Path) -> None:
    """An archive that no program would write."""
    with zipfile.ZipFile(model / WEIGHTS) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    name = case.pick(list(members))
    how = case.pick(
        ("header", "header", "pickle", "bomb", "deflated", "lengths", "twice", "no array", "directory")
    )
    case.kinds.append(f"archive: {how}")
    compression = zipfile.ZIP_DEFLATED if how in ("bomb", "deflated") else zipfile.ZIP_STORED
    if how == "header":
        header = case.pick(_HEADERS).encode() + b"\n"
        size = len(header).to_bytes(4, "little")
        members[name] = b"\x93NUMPY" + case.pick((b"\1\0" + size[:2], b"\2\0" + size, b"\xff\0")) + header
    elif how == "pickle":
        members[name] = pickle.dumps(Evil(case.canary))
    elif how == "bomb":
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (250000000,), }\n"
        members[name] = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(10**9 // 4)
    elif how == "no array":
        members[name] = case.rng.bytes(100)
    with zipfile.ZipFile(model / WEIGHTS, "w", compression) as file:
        for member, content in members.items():
            file.writestr(member, content)
        if how == "twice":
            file.writestr(name, members[name])
        elif how == "directory":
            file.writestr("params/", b"")
    if how == "lengths":  # and places in the archive's directory: large, overlapping, beyond the end
        altered = bytearray((model / WEIGHTS).read_bytes())
        start = altered.rfind(b"PK\1\2")
        for place in case.rng.integers(start + 8, start + 46, 4):
            altered[place] = case.pick((0, 1, 127, 255))
        (model / WEIGHTS).write_bytes(altered)


def _correct_checksum(model: Path) -> None:
    """Tell the checksum that the weights now have, as who makes a hostile model does."""
    if not ((model / FACTS).is_file() and (model / WEIGHTS).is_file()):  # reading a pipe would wait
        return
    try:
        facts = json.loads((model / FACTS).read_text(encoding="utf-8"))
        facts["weights"]["sha256"] = hashlib.sha256((model / WEIGHTS).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    (model / FACTS).write_text(json.dumps(facts))
