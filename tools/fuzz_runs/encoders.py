"""PyTorch files that are damaged, by chance or on purpose."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.commands import CommandError, run_command
from tools.fuzz_runs.damage import damage_folder
from tools.fuzz_runs.evil import Evil
from tools.fuzz_runs.values import TEXTS
from tools.fuzzing import damage
from vocalsep_jax.coseparation import keys
from vocalsep_jax.coseparation.keys import ConversionError
from vocalsep_jax.runs.checkpoints import named_arrays


def attempt(case: Case) -> Attempt:
    """A file with something wrong, and one of those that read it."""
    import torch

    from tools import convert_torch_encoder

    with np.load(case.templates / "encoder.npz") as file:
        state: dict[str, Any] = {name: torch.from_numpy(x) for name, x in file.items()}
    path = case.folder / "files" / "encoder.pth"
    path.parent.mkdir()
    old = case.chance(0.3)
    content: Any = state
    harm = case.pick((*("bytes",) * 3, "folder", *("pickle",) * 2, "archive", *("tensors",) * 4, "nested"))
    case.kinds += [harm, "before zip" if old else "zip"]
    if harm == "pickle":
        content = _with_code(case, state)
    elif harm == "tensors":
        _alter_tensors(case, state)
    elif harm == "nested":
        content = _nest(case, state)
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    if harm == "pickle" and case.chance(0.3):
        path.write_bytes(pickle.dumps(content, protocol=case.pick((0, 2, 4))))
    elif harm == "bytes":
        case.kinds.append(f"file: {damage(case, path)}")
    elif harm == "folder":
        damage_folder(case, path.parent)
    elif harm == "archive":
        _rewrite(case, path)
    must_fail = harm == "pickle"
    if case.chance(0.05):
        case.kinds.append("command")
        arguments = [str(path), "out", *case.pick(([], ["--full"]))]
        call = convert_torch_encoder.main
        return Attempt(lambda: run_command(call, arguments, [1]), (CommandError,), must_fail=must_fail)
    return Attempt(lambda: _convert(path), (ConversionError,), _check, must_fail)


def _convert(path: Path) -> Any:
    from vocalsep_jax.coseparation import torch_files

    state, _, _ = torch_files.load(path)
    network = keys.identify({key: x.shape for key, x in state.items()})
    return keys.to_flax(state, network, full=bool(network.decoder))


def _check(model: Any) -> str | None:
    finite = all(np.isfinite(x).all() for x in named_arrays(model).values())
    return None if finite else "weights are not finite"


def _with_code(case: Case, state: dict[str, Any]) -> Any:
    """A state dict with a call in it, somewhere."""
    evil: Any = Evil(case.canary)
    for _ in range(case.pick((0, 1, 3))):
        evil = case.pick(({"state_dict": evil}, [evil], {"a": {"b": evil}}))
    if case.chance(0.5):
        state[case.pick(list(state))] = evil
        return state
    return evil


def _alter_tensors(case: Case, state: dict[str, Any]) -> None:
    """Tensors, or their names, that are others than they should be."""
    import torch

    key = case.pick(list(state))
    x = state[key]
    hows = (
        "value",
        "negated",
        "dtype",
        "shape",
        "expanded",
        "expanded",
        "missing",
        "more",
        "many",
        "kind",
        "name",
    )
    how = case.pick(hows)
    case.kinds.append(f"tensor: {how}")
    if how == "value":
        state[key] = torch.full_like(x, case.pick((float("nan"), float("inf"), -1.0)) if x.ndim else 1)
    elif how == "negated":
        state[key] = torch._neg_view(x.float())
    elif how == "dtype":
        dtypes = ("float16", "float64", "bfloat16", "int8", "bool", "complex64", "float8_e4m3fn")
        state[key] = x.to(getattr(torch, case.pick(dtypes)))
    elif how == "shape":
        shapes: tuple[tuple[int, ...], ...] = ((), (0,), (0, 2**40), (3, 5), (1,) * 60)
        state[key] = torch.ones(case.pick(shapes))
    elif how == "expanded":  # a number that says to be billions
        one = torch.ones(1, dtype=case.pick((torch.float32, torch.float16)))
        if case.chance(0.5):
            state[key] = one.expand(case.pick((2**31, 2**40)))
        else:
            width = case.pick((2**11, 2**14))
            for name, other in state.items():
                if other.ndim:
                    state[name] = one.expand([size * width if size > 4 else size for size in other.shape])
    elif how == "missing":
        del state[key]
    elif how == "more":
        state[case.pick(TEXTS[:-1]).replace("\ud800", "?").replace("\udcff", "?")] = x
    elif how == "many":
        state.update({f"audionet_convlayer{n}.0.weight": x for n in range(20_000)})
    elif how == "kind":
        odd = (
            x.to_sparse() if x.ndim else 3,
            None,
            "text",
            3,
            [x],
            {"a": x},
            torch.nn.Parameter(x.float()),
        )
        state[key] = case.pick(odd)
    else:
        names: tuple[Any, ...] = (3, ("a",), "module." + key, key.upper())
        state[case.pick(names)] = state.pop(key)


def _nest(case: Case, state: dict[str, Any]) -> Any:
    """The state dict inside of something else."""
    how = case.pick(("state_dict", "model", "deep", "itself", "list", "both", "empty"))
    case.kinds.append(f"nested: {how}")
    if how == "deep":
        content: Any = state
        for _ in range(case.pick((10, 200))):
            content = {"state_dict": content}
        return content
    if how == "itself":
        state["state_dict"] = state
        return state
    return {"list": [state], "both": {"model": state, "state_dict": 3}, "empty": {}}.get(how, {how: state})


def _rewrite(case: Case, path: Path) -> None:
    """Another archive of the file's members, or of other ones."""
    if not zipfile.is_zipfile(path):
        case.kinds.append(f"file: {damage(case, path)}")
        return
    with zipfile.ZipFile(path) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    how = case.pick(("bomb", "missing", "swapped", "pickle", "twice", "huge", "names"))
    case.kinds.append(f"archive: {how}")
    data = [name for name in members if "/data/" in name]
    name, other = case.pick(data), case.pick(data)
    main = next(name for name in members if name.endswith("data.pkl"))
    if how == "bomb":
        members[case.pick((name, "archive/more"))] = bytes(2**28)
    elif how == "missing":
        del members[case.pick(list(members))]
    elif how == "swapped":
        members[name], members[other] = members[other], members[name]
    elif how == "pickle":
        members[main] = _altered_pickle(case, members[main])
    elif how == "huge":  # numbers of elements, as the pickle has them
        members[main] = members[main].replace(b"K\x02", b"J\xff\xff\xff\x7f", case.pick((1, 2, 8)))
    elif how == "names":
        members = {f"../../{member}": content for member, content in members.items()}
    compression = zipfile.ZIP_DEFLATED if how == "bomb" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression) as file:
        for member, content in members.items():
            file.writestr(member, content)
        if how == "twice":
            file.writestr(main, pickle.dumps(Evil(case.canary), protocol=2))


def _altered_pickle(case: Case, content: bytes) -> bytes:
    """Other pickles: of a call, deep ones, flipped bits."""
    how = case.pick(("call", "deep", "flipped"))
    if how == "call":
        return pickle.dumps({"a": Evil(case.canary)}, protocol=2)
    if how == "deep":
        return b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    flipped = bytearray(content)
    for place in case.rng.integers(len(flipped), size=3):
        flipped[place] ^= 1 << int(case.rng.integers(8))
    return bytes(flipped)
