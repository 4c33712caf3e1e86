"""A trained model as a folder that needs nothing of the run it came from.

It holds the weights and the config, which `--checkpoint` takes; a program that separates with nothing but
jax and flatbuffers installed, if it is wanted; and what one should know of the model, in `model.json` and
`README.md`.
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
from vocalsep_jax.models.networks import for_prediction
from vocalsep_jax.runs.checkpoints import named_arrays
from vocalsep_jax.runs.exported import FACTS, WEIGHT_DTYPES, WEIGHTS, write_weights
from vocalsep_jax.runs.folder import RunError, find_run, package_versions
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
    program: bool = True,
    dtype: str = "float32",
    overlap: float = OVERLAP,
    batch_size: int = 8,
    wiener: bool = False,
    licence: str = MODEL_LICENCE,
) -> dict[str, Any]:
    """Write the folder of a model.

    Args:
      checkpoint: as for `Separator`.
      folder: where to; it must not be there, or be empty. It names the model.
      program: whether to write the program, too.
      dtype: of the weights in the file, one of `WEIGHT_DTYPES`. The program has them as they are there.
      overlap, batch_size: of the patches in the program.
      wiener: whether the program of a stereo model refines by a multichannel Wiener filter.
      licence: of the weights.

    Returns:
      The contents of `model.json`.

    Raises:
      RunError: if the checkpoint cannot be used, the folder not written, or the program does not compute
        what `Separator` does.
      ValueError: if `dtype`, `overlap` or `batch_size` is none there is.
    """
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(WEIGHT_DTYPES)}, not {dtype!r}")
    folder = folder.absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder}: is there already; give another name or delete it")
        with disk.replacing(folder) as partial:
            partial.mkdir()  # first: if it fails, the work below is spared
            trained = Separator(checkpoint, overlap=overlap, batch_size=batch_size, wiener=wiener)
            run = find_run(checkpoint)
            record = read_record(run)
            # As a run has it, for `--checkpoint`.
            write_record(partial, RunRecord(_public(record.config), songs={}))
            arrays = {name: np.asarray(x) for name, x in named_arrays(trained.variables).items()}
            checksum = write_weights(partial, arrays, dtype)
            facts = _facts(folder.name, trained, _training(run, record, trained), licence)
            facts["weights"] = {"file": WEIGHTS, "dtype": dtype, "sha256": checksum}
            _write_facts(partial, facts)
            exported = Separator(partial, overlap=overlap, batch_size=batch_size, wiener=wiener)
            samples = _noise(exported)
            stems = exported.separate(samples, exported.sample_rate)
            log.info("comparing it with the run")
            expected = trained.separate(samples, trained.sample_rate)
            facts["weights"]["largest_difference"] = _difference(stems, expected, samples)
            if program:
                log.info("making the program")
                content = _program(exported, overlap, batch_size)
                log.info("comparing it with the model")
                called = export.deserialize(bytearray(content)).call(samples[None])
                found = {name: np.asarray(stem)[0] for name, stem in called.items()}
                difference = _difference(found, stems, samples)
                if not difference <= _TOLERANCE:
                    raise RunError(f"{checkpoint}: the program differs from the model by {difference:.2g}")
                (partial / PROGRAM).write_bytes(content)
                facts["program"] = {
                    "file": PROGRAM,
                    "platforms": list(PLATFORMS),
                    "overlap": overlap,
                    "wiener": exported.wiener,
                    "largest_difference": difference,
                }
            _write_facts(partial, facts)
            disk.write_text(partial / "README.md", _readme(facts))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
    return facts


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    disk.write_text(folder / FACTS, json.dumps(facts, indent=2) + "\n")


def _facts(name: str, separator: Separator, training: dict[str, Any], licence: str) -> dict[str, Any]:
    """The contents of `model.json`, but for those of weights and program."""
    arrays = named_arrays(separator.variables["params"])
    return {
        "model": name,
        "step": separator.step,
        "stems": list(STEMS),
        "sample_rate": separator.sample_rate,
        "channels": separator.model.channels,
        "stft": {"n_fft": separator.stft.n_fft, "hop": separator.stft.hop, "window": "periodic Hann"},
        "parameters": sum(int(np.size(x)) for x in arrays.values()),
        "training": training,
        "licence": licence,
        "versions": package_versions(),
    }


def _public(config: Config) -> Config:
    """A run's config without what is private: names of songs, and paths."""
    data = dataclasses.replace(config.data, root="", cache="", instrumentals="", valid_names=())
    return dataclasses.replace(config, data=data, init_from="", init_encoder="")


def _program(separator: Separator, overlap: float, batch_size: int) -> bytes:
    """The separation of waveforms `[b, s, c]`, all three symbolic, weights included, as StableHLO."""
    patch = separator.stft.bins, separator.patch_frames
    model, variables = for_prediction(separator.model, separator.variables, patch, None)

    def predict(patches: jax.Array) -> jax.Array:
        # The barrier keeps the compiler from computing with 100 million constants at compile time.
        return model.apply(lax.optimization_barrier(variables), patches)

    separate = separation(
        predict,
        separator.stft,
        patch_frames=separator.patch_frames,
        overlap=overlap,
        batch_size=batch_size,
        together=separator.model.channels,
        wiener=separator.wiener,
    )
    channels = "c" if separator.model.channels == 1 else separator.model.channels
    waveform = jax.ShapeDtypeStruct(export.symbolic_shape(f"b, s, {channels}"), np.float32)
    return bytes(export.export(jax.jit(separate), platforms=PLATFORMS)(waveform).serialize())


def _noise(separator: Separator) -> np.ndarray:
    """Some noise, float32 `[S, C]`."""
    samples = separator.stft.samples(2 * separator.patch_frames)
    channels = max(2, separator.model.channels)
    return np.random.default_rng(0).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def _difference(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], samples: np.ndarray
) -> float:
    """The largest difference of stems, relative to the largest sample of what was separated."""
    worst = max(float(np.abs(found[name] - expected[name]).max()) for name in STEMS)
    return worst / float(np.abs(samples).max())


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
"""

_README_PROGRAM = """
With nothing but jax ({jax} or newer; `pip install jax flatbuffers`), waveforms at {sample_rate} Hz,
float32 `[batch, samples, {program_channels}]`:

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
    text = _README + _README_PROGRAM if "program" in facts else _README
    return text.format_map(
        facts
        | {
            "version": versions["vocalsep_jax"],
            "jax": versions["jax"],
            "program": PROGRAM,
            "program_channels": "channels" if facts["channels"] == 1 else facts["channels"],
            "platforms": ", ".join(PLATFORMS),
        }
    )
