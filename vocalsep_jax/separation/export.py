"""A trained model as a folder that needs nothing of the run it came from.

It holds the weights and the config, which `--checkpoint` takes; a program that separates with nothing but
jax and flatbuffers installed; and what one should know of the model, in `model.json` and `README.md`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export, lax

from vocalsep_jax.config import Config
from vocalsep_jax.coseparation import keys
from vocalsep_jax.runs.checkpoints import KINDS, named_arrays, save_model
from vocalsep_jax.runs.folder import RunError, checkpoint_folder, find_run, package_versions
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import RunRecord, read_record, write_record
from vocalsep_jax.runtime import disk
from vocalsep_jax.separation import MODEL_LICENCE
from vocalsep_jax.separation.program import separation
from vocalsep_jax.separation.separator import OVERLAP, Separator
from vocalsep_jax.separation.stem_files import STEMS

log = logging.getLogger(__name__)

PROGRAM = "separation.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")

_TOLERANCE = 1e-4
"""Largest difference between the program's stems and `Separator`'s, relative to the largest sample."""


def export_model(
    checkpoint: str | Path,
    folder: Path,
    *,
    overlap: float = OVERLAP,
    batch_size: int = 8,
    licence: str = MODEL_LICENCE,
) -> dict[str, Any]:
    """Write the folder of a model.

    Args:
      checkpoint: as for `Separator`.
      folder: where to; it must not be there, or be empty.
      overlap, batch_size: of the patches in the program.
      licence: of the weights.

    Returns:
      The contents of `model.json`.

    Raises:
      RunError: if the checkpoint cannot be used, the folder not written, or the program does not compute
        what `Separator` does.
      ValueError: if `overlap` or `batch_size` is out of range.
    """
    folder = folder.absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder}: is there already; give another name or delete it")
        with disk.replacing(folder) as partial:
            partial.mkdir()  # first: if it fails, the work below is spared
            separator = Separator(checkpoint, overlap=overlap, batch_size=batch_size)
            run = find_run(checkpoint)
            record = read_record(run)
            log.info("making the program")
            program = _program(separator, overlap, batch_size)
            log.info("comparing it with the model")
            difference = _difference(program, separator)
            if not difference <= _TOLERANCE:
                raise RunError(f"{checkpoint}: the program differs from the model by {difference:.2g}")
            facts = _facts(_training(run, record, separator), separator, overlap, difference, licence)
            (partial / PROGRAM).write_bytes(program)
            disk.write_text(partial / "model.json", json.dumps(facts, indent=2) + "\n")
            disk.write_text(partial / "README.md", _readme(facts))
            # As a run has them, for `--checkpoint`.
            write_record(partial, RunRecord(_public(record.config), songs={}))
            step = checkpoint_folder(partial) / KINDS[0] / str(separator.step)
            step.mkdir(parents=True)
            save_model(step, separator.variables)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
    return facts


def _facts(
    training: dict[str, Any], separator: Separator, overlap: float, difference: float, licence: str
) -> dict[str, Any]:
    """The contents of `model.json`."""
    arrays = named_arrays(separator.variables["params"])
    return {
        "model": separator.name,
        "step": separator.step,
        "stems": list(STEMS),
        "sample_rate": separator.sample_rate,
        "stft": {"n_fft": separator.stft.n_fft, "hop": separator.stft.hop, "window": "periodic Hann"},
        "parameters": sum(int(np.size(x)) for x in arrays.values()),
        "training": training,
        "licence": licence,
        "program": {
            "file": PROGRAM,
            "platforms": list(PLATFORMS),
            "overlap": overlap,
            "largest_difference": difference,
        },
        "versions": package_versions(),
    }


def _public(config: Config) -> Config:
    """A run's config without what is private: names of songs, and paths."""
    data = dataclasses.replace(config.data, root="", cache="", valid_names=())
    return dataclasses.replace(config, data=data, init_from="", init_encoder="")


def _program(separator: Separator, overlap: float, batch_size: int) -> bytes:
    """The separation of waveforms `[b, s, c]`, all three symbolic, weights included, as StableHLO."""

    def predict(patches: jax.Array) -> jax.Array:
        # The barrier keeps the compiler from computing with 100 million constants at compile time.
        return separator.model.apply(lax.optimization_barrier(separator.variables), patches)

    separate = separation(
        predict,
        separator.stft,
        patch_frames=separator.patch_frames,
        overlap=overlap,
        batch_size=batch_size,
    )
    waveform = jax.ShapeDtypeStruct(export.symbolic_shape("b, s, c"), np.float32)
    return bytes(export.export(jax.jit(separate), platforms=PLATFORMS)(waveform).serialize())


def _difference(program: bytes, separator: Separator) -> float:
    """The largest difference of the stems of some noise, relative to its largest sample."""
    samples = separator.stft.samples(2 * separator.patch_frames)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, samples, 2)).astype(np.float32)
    found = export.deserialize(bytearray(program)).call(noise)
    expected = separator.separate(noise[0], separator.sample_rate)
    worst = max(float(np.abs(np.asarray(found[name])[0] - expected[name]).max()) for name in STEMS)
    return worst / float(np.abs(noise).max())


def _training(run: Path, record: RunRecord, separator: Separator) -> dict[str, Any]:
    """How the model came about, as far as the run tells."""
    validations = [
        line for line in read_history(run) if line["kind"] == "valid" and line["step"] == separator.step
    ]
    summary: dict[str, Any] = {
        "config": record.config.name,
        "songs": {split: len(names) for split, names in record.songs.items()},
        "validation": validations[-1] if validations else None,
    }
    if record.config.init_encoder:
        summary["encoder"] = f"{keys.CITATION} Licence: {keys.LICENCE}"
    return summary


_README = """\
# {model}

Splits the singing voice from the instruments. {parameters:,} parameters, {sample_rate} Hz.
Licence: {licence}.
Made by vocalsep_jax {version}; `model.json` tells more.

With vocalsep_jax, songs of any sample rate:

    vocalsep separate SONG... --checkpoint THIS_FOLDER -o OUT

With nothing but jax ({jax} or newer; `pip install jax flatbuffers`), waveforms at {sample_rate} Hz,
float32 `[batch, samples, channels]`:

    from pathlib import Path
    from jax import export

    program = export.deserialize(bytearray(Path("{program}").read_bytes()))
    stems = program.call(waveform)
    stems["vocals"], stems["no_vocals"]

It is compiled for each shape it meets, on {platforms}; waveforms are held in memory whole.
"""


def _readme(facts: dict[str, Any]) -> str:
    """The folder's `README.md`."""
    versions = facts["versions"]
    return _README.format_map(
        facts
        | {
            "version": versions["vocalsep_jax"],
            "jax": versions["jax"],
            "program": PROGRAM,
            "platforms": ", ".join(PLATFORMS),
        }
    )
