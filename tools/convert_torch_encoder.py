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
    from vocalsep_jax import torch_io
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    sys.exit(
        "error: this tool needs the convert extra (no torch): pip install 'vocalsep_jax[convert]', or "
        "pip install -r requirements/torch.txt"
    )

import jax
import numpy as np

from vocalsep_jax import coseparation, files, runs
from vocalsep_jax.checkpoints import named_arrays, read_model, save_model, shape_text
from vocalsep_jax.console import start_logging
from vocalsep_jax.coseparation import CITATION, LICENCE, TOLERANCE, ConversionError, Network

log = logging.getLogger(__name__)


def convert(source: Path, folder: Path, *, full: bool) -> dict[str, Any]:
    """PyTorch to Flax: write `folder`, return the report.

    Raises:
      ConversionError: if the source cannot be converted, or the proof fails; nothing is written then.
      OSError: if the folder cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConversionError(f"{folder}: exists already; remove it or choose another")
    state, dtypes, layout = torch_io.load(source)
    with coseparation.about(source):
        network = coseparation.identify({key: x.shape for key, x in state.items()})
        if full and not network.decoder:
            raise ConversionError("has no decoder, so it cannot be converted with --full")
        model = coseparation.to_flax(state, network, full=full)
    x = coseparation.proof_input()
    reference = torch_io.activations(state, network, x, full=full)
    left_out = _left_out(state, network, full=full)
    del state  # the full network need not be in memory twice from here on
    proof = coseparation.relative_differences(coseparation.activations(model, x), reference)
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
        "converted": _rows(coseparation.taken(network, full=full), model),
        "left_out": left_out,
        "proof": {"tolerance": TOLERANCE, "relative_difference": proof},
        "versions": runs.package_versions() | {"torch": torch_io.VERSION},
    }
    _show(report)
    _check(proof)
    with files.replacing(folder) as partial:
        partial.mkdir()
        save_model(partial, model)
        files.write_text(partial / "report.json", json.dumps(report, indent=2) + "\n")
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
    with coseparation.about(source):
        network = coseparation.network_of(model)
    rows = _rows(coseparation.entries(network), model)
    x = coseparation.proof_input()
    reference = coseparation.activations(model, x)
    state = coseparation.to_torch(model, network, step)
    del model  # the full network need not be in memory twice from here on
    exported = torch_io.activations(state, network, x, full=bool(network.decoder))
    proof = coseparation.relative_differences(exported, reference)
    _show({"converted": rows, "left_out": [], "proof": {"relative_difference": proof}})
    _check(proof)
    torch_io.save(state, path)
    _tell_front_end(source)


def _tell_front_end(source: Path) -> None:
    """Say what a run's network is given, which a state dict does not hold."""
    try:
        config = runs.read_config(runs.find_run(source))["config"]
    except runs.RunError:  # a converted folder
        return
    audio, warped = config["audio"], config["frequency_scale"] != "linear"
    print(
        f"\nThe network takes magnitudes at {audio['sample_rate']} Hz, n_fft {audio['n_fft']}, hop "
        f"{audio['hop']}; input_transform {config['input_transform']}; frequency_scale "
        f"{config['frequency_scale']}" + (f" of {config['frequency_bins']} bins" if warped else "")
    )


def _rows(entries: list[coseparation.Entry], model: Any) -> list[dict[str, Any]]:
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


def _left_out(state: Mapping[str, Any], network: Network, *, full: bool) -> list[dict[str, str]]:
    used = {entry.source for entry in coseparation.taken(network, full=full)}
    counters = set(coseparation.counters(state))
    reasons = {
        key: "counts batches; nothing uses it" if key in counters else "decoder; ours is new (see --full)"
        for key in state
        if key not in used
    }
    if full and network.visual:
        key = f"{coseparation.block_key(network, 'up1')}.0.weight"
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
    for why, keys in itertools.groupby(report["left_out"], key=lambda row: row["why"]):
        patterns = {re.sub(r"layer\d+", "layerN", row["source"]): None for row in keys}
        print(f"left out ({why}): {', '.join(patterns)}")
    print(f"\n{'block':8} largest relative difference between PyTorch and Flax")
    for block, difference in report["proof"]["relative_difference"].items():
        print(f"{block:8} {difference:.1e}")


def _check(proof: Mapping[str, float]) -> None:
    worst = max(proof, key=lambda block: proof[block])
    if not proof[worst] <= TOLERANCE:
        raise ConversionError(
            f"the networks differ, {worst} by {proof[worst]:.1e} (at most {TOLERANCE:.0e}): nothing written"
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
    except (ConversionError, runs.RunError) as error:
        log.error("error: %s", error)
        return 1
    except OSError as error:
        log.error("error: %s: %s", error.filename or options.target, error.strerror or error)
        return 1
    print(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
