"""Convert the PyTorch co-separation encoder to a checkpoint that training starts from, or back.

    python tools/convert_torch_encoder.py unet_latest.pth encoder/
    python -m vocalsep_jax.main --config configs/base.py --config.init_encoder=encoder/

IN is the state dict of the co-separation audio network (5 or 7 layers, any width); OUT becomes a folder
with an Orbax checkpoint and report.json. --full converts the audio decoder too; then OUT can also be given
to --config.init_from. --to-torch goes the other way: IN is a run, a checkpoint or a converted folder, OUT a
file for PyTorch, with the encoder under its published names and the decoder as upconvlayerN.*.

Every conversion is proved before OUT is written: both networks see the same input, and the output of each
block must agree. The published code is CC BY 4.0; whose weights you convert, on which terms, you know.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from vocalsep_jax.coseparation import torch_files
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    sys.exit(
        "error: this tool needs the convert extra (no torch): pip install 'vocalsep_jax[convert]', or "
        "pip install -r requirements/torch.txt"
    )

import jax
import numpy as np

from vocalsep_jax.coseparation import keys, proof
from vocalsep_jax.coseparation.keys import CITATION, LICENCE, ConversionError, TorchNetwork
from vocalsep_jax.runs.checkpoints import named_arrays, read_model, save_model, shape_text
from vocalsep_jax.runs.folder import RunError, find_run, package_versions
from vocalsep_jax.runs.record import read_record
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging

log = logging.getLogger(__name__)


def convert(source: Path, folder: Path, *, full: bool) -> dict[str, Any]:
    """PyTorch to Flax: write `folder`, return the report.

    Raises:
      ConversionError: if the source cannot be converted, or the proof fails; nothing is written then.
      OSError: if the folder cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConversionError(f"{folder}: exists already; remove it or choose another")
    state, dtypes, layout = torch_files.load(source)
    with keys.about(source):
        network = keys.identify({key: x.shape for key, x in state.items()})
        if full and not network.decoder:
            raise ConversionError("has no decoder, so it cannot be converted with --full")
        model = keys.to_flax(state, network, full=full)
    x = proof.proof_input()
    reference = torch_files.activations(state, network, x, full=full)
    left_out = _left_out(state, network, full=full)
    del state  # the full network need not be in memory twice from here on
    differences = proof.relative_differences(proof.activations(model, x), reference)
    report = {
        "format": 1,
        "source": {
            "file": source.name,
            "bytes": source.stat().st_size,
            "sha256": _sha256(source),
            "layout": layout,
            "dtypes": sorted(dtypes),
        },
        "network": {"width": network.width, "depth": network.depth},
        "licence": f"the published code is {LICENCE}; whoever made these weights says how to use them",
        "citation": CITATION,
        "converted": _rows(keys.taken(network, full=full), model),
        "left_out": left_out,
        "proof": {"tolerance": proof.TOLERANCE, "relative_difference": differences},
        "versions": package_versions() | {"torch": torch_files.VERSION},
    }
    _show(report)
    _check(differences)
    with disk.replacing(folder) as partial:
        partial.mkdir()
        save_model(partial, model)
        disk.write_text(partial / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def export(source: Path, path: Path) -> None:
    """Flax to PyTorch: write the state dict `path`.

    Raises:
      ConversionError, RunError: if the source cannot be read, or the proof fails; nothing is written then.
      OSError: if the file cannot be written.
    """
    if path.exists():
        raise ConversionError(f"{path}: exists already; remove it or choose another")
    model, step = read_model(source)
    with keys.about(source):
        network = keys.network_of(model)
    rows = _rows(keys.entries(network), model)
    x = proof.proof_input()
    reference = proof.activations(model, x)
    state = keys.to_torch(model, network, step)
    del model  # the full network need not be in memory twice from here on
    exported = torch_files.activations(state, network, x, full=bool(network.decoder))
    differences = proof.relative_differences(exported, reference)
    _show({"converted": rows, "left_out": [], "proof": {"relative_difference": differences}})
    _check(differences)
    torch_files.save(state, path)
    _tell_front_end(source)


def _tell_front_end(source: Path) -> None:
    """Say what a run's network is given, which a state dict does not hold."""
    try:
        config = read_record(find_run(source)).config
    except RunError:  # a converted folder
        return
    warped = config.frequency_scale != "linear"
    print(
        f"\nThe network takes magnitudes at {config.audio.sample_rate} Hz, n_fft {config.audio.n_fft}, hop "
        f"{config.audio.hop}; input_transform {config.input_transform}; frequency_scale "
        f"{config.frequency_scale}" + (f" of {config.frequency_bins} bins" if warped else "")
    )


def _rows(entries: list[keys.Entry], model: Any) -> list[dict[str, Any]]:
    arrays = {name: np.asarray(x) for name, x in named_arrays(model).items()}
    return [
        {
            "source": entry.source,
            "source_shape": list(entry.shape),
            "target": entry.target,
            "shape": list(arrays[entry.target].shape),
            "transpose": list(entry.axes) if entry.axes else None,
            "input_channels_left_out": entry.skip,
            "mean": float(arrays[entry.target].mean(dtype=np.float64)),
            "std": float(arrays[entry.target].std(dtype=np.float64)),
        }
        for entry in entries
    ]


def _left_out(state: Mapping[str, Any], network: TorchNetwork, *, full: bool) -> list[dict[str, str]]:
    used = {entry.source for entry in keys.taken(network, full=full)}
    counters = set(keys.counters(state))
    reasons = {
        key: "counts batches; nothing uses it" if key in counters else "decoder; ours is new (see --full)"
        for key in state
        if key not in used
    }
    if full and network.visual:
        key = f"{keys.block_key(network, 'up1')}.0.weight"
        reasons[f"{key}[:{network.visual}]"] = "meets the visual feature, which there is none of"
    rows = [{"source": key, "why": why} for key, why in reasons.items()]
    return sorted(rows, key=lambda row: row["why"])


def _show(report: Mapping[str, Any]) -> None:
    print(f"{'PyTorch':38}{'shape':>19}   {'Flax':31}{'shape':>19}  {'axes':>7} {'mean':>10} {'std':>9}")
    for row in report["converted"]:
        shapes = [shape_text(row[name]) for name in ("source_shape", "shape")]
        axes = "".join(map(str, row["transpose"])) if row["transpose"] else "-"
        print(
            f"{row['source']:38}{shapes[0]:>19}   {row['target']:31}{shapes[1]:>19}  "
            f"{axes:>7} {row['mean']:10.2e} {row['std']:9.2e}"
        )
    for why, rows in itertools.groupby(report["left_out"], key=lambda row: row["why"]):
        patterns = {re.sub(r"layer\d+", "layerN", row["source"]): None for row in rows}
        print(f"left out ({why}): {', '.join(patterns)}")
    print(f"\n{'block':8} largest relative difference between PyTorch and Flax")
    for block, difference in report["proof"]["relative_difference"].items():
        print(f"{block:8} {difference:.1e}")


def _check(differences: Mapping[str, float]) -> None:
    worst = max(differences, key=lambda block: differences[block])
    if not differences[worst] <= proof.TOLERANCE:
        raise ConversionError(
            f"the networks differ, {worst} by {differences[worst]:.1e} "
            f"(at most {proof.TOLERANCE:.0e}): nothing written"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python tools/convert_torch_encoder.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT")
    direction = parser.add_mutually_exclusive_group()
    direction.add_argument("--full", action="store_true", help="convert the audio decoder too")
    direction.add_argument("--to-torch", action="store_true", help="IN is ours, OUT a file for PyTorch")
    options = parser.parse_args(argv)
    start_logging()
    jax.config.update("jax_platforms", "cpu")  # all that it takes, and the digits that the proof needs
    source, target = options.source.expanduser(), options.target.expanduser().absolute()
    try:
        if options.to_torch:
            export(source, target)
        else:
            convert(source, target, full=options.full)
    except (ConversionError, RunError) as error:
        log.error("error: %s", error)
        return 1
    except OSError as error:
        log.error("error: %s: %s", error.filename or options.target, error.strerror or error)
        return 1
    print(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
