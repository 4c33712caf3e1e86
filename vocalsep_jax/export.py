"""Write a trained model for use elsewhere: a folder that needs nothing of the run it came from.

    vocalsep export RUN MODEL/

`MODEL/` holds the weights and the config, which `--checkpoint` takes; a program that separates with nothing
but jax and flatbuffers installed; and what one should know of the model, in `model.json` and `README.md`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocalsep_jax.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax import files, runs
from vocalsep_jax.console import one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separator import OVERLAP, STEMS, Separator

PROGRAM = "separation.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")
LICENCE = "Apache-2.0"

_TOLERANCE = 1e-4
"""Largest difference between the program's stems and `Separator`'s, relative to the largest sample."""

log = logging.getLogger(__name__)


def export_model(
    checkpoint: str | Path,
    folder: Path,
    *,
    overlap: float = OVERLAP,
    batch_size: int = 8,
    licence: str = LICENCE,
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
    from vocalsep_jax import checkpoints

    folder = folder.absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise runs.RunError(f"{folder}: is there already; give another name or delete it")
        with files.replacing(folder) as partial:
            partial.mkdir()  # before the work that this may spare
            separator = Separator(checkpoint, overlap=overlap, batch_size=batch_size)
            run = runs.find_run(checkpoint)
            log.info("making the program")
            program = _program(separator, overlap, batch_size)
            log.info("comparing it with the model")
            difference = _difference(program, separator)
            if not difference <= _TOLERANCE:
                raise runs.RunError(f"{checkpoint}: the program differs from the model by {difference:.2g}")
            facts = _facts(run, separator, overlap, difference, licence)
            (partial / PROGRAM).write_bytes(program)
            files.write_text(partial / "model.json", json.dumps(facts, indent=2) + "\n")
            files.write_text(partial / "README.md", _readme(facts))
            # As a run has them, for `--checkpoint`.
            files.write_text(runs.config_path(partial), json.dumps(_config(run), indent=2) + "\n")
            step = runs.checkpoint_folder(partial) / checkpoints.KINDS[0] / str(separator.step)
            step.mkdir(parents=True)
            checkpoints.save_model(step, separator.variables)
    except OSError as error:
        raise runs.RunError(f"{folder}: cannot be written ({error.strerror})") from error
    return facts


def _facts(
    run: Path, separator: Separator, overlap: float, difference: float, licence: str
) -> dict[str, Any]:
    """The contents of `model.json`."""
    from vocalsep_jax import checkpoints

    arrays = checkpoints.named_arrays(separator.variables["params"])
    return {
        "model": separator.name,
        "step": separator.step,
        "stems": list(STEMS),
        "sample_rate": separator.sample_rate,
        "stft": {"n_fft": separator.stft.n_fft, "hop": separator.stft.hop, "window": "periodic Hann"},
        "parameters": sum(int(np.size(x)) for x in arrays.values()),
        "training": _training(run, separator),
        "licence": licence,
        "program": {
            "file": PROGRAM,
            "platforms": list(PLATFORMS),
            "overlap": overlap,
            "largest_difference": difference,
        },
        "versions": runs.package_versions(),
    }


def _config(run: Path) -> dict[str, Any]:
    """The run's `config.json` without what concerns nobody else: names of songs, and places."""
    content = runs.read_config(run)
    config = content["config"]
    for name in ("init_from", "init_encoder"):
        if name in config:
            config[name] = ""
    for name in ("root", "cache", "valid_names"):
        if name in config.get("data", {}):
            config["data"][name] = type(config["data"][name])()
    return content | {"songs": {}}


def _program(separator: Separator, overlap: float, batch_size: int) -> bytes:
    """The separation of waveforms `[b, s, c]`, all three symbolic, weights included, as StableHLO."""
    import jax
    from jax import export, lax

    from vocalsep_jax.program import separation

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
    from jax import export

    samples = separator.stft.samples(2 * separator.patch_frames)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, samples, 2)).astype(np.float32)
    found = export.deserialize(bytearray(program)).call(noise)
    expected = separator.separate(noise[0], separator.sample_rate)
    worst = max(float(np.abs(np.asarray(found[name])[0] - expected[name]).max()) for name in STEMS)
    return worst / float(np.abs(noise).max())


def _training(run: Path, separator: Separator) -> dict[str, Any]:
    """How the model came about, as far as the run tells."""
    from vocalsep_jax import coseparation, monitoring

    content = runs.read_config(run)
    validations = [
        line
        for line in monitoring.read_history(run)
        if line["kind"] == "valid" and line["step"] == separator.step
    ]
    summary: dict[str, Any] = {
        "config": content["config"].get("name"),
        "songs": {split: len(names) for split, names in content.get("songs", {}).items()},
        "validation": validations[-1] if validations else None,
    }
    if content["config"].get("init_encoder"):
        summary["encoder"] = f"{coseparation.CITATION} Licence: {coseparation.LICENCE}"
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
    """What to do with the folder."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep export",
        description="Write a trained model for use elsewhere.",
        epilog="Exit code: 0 done, 2 wrong usage or a model that cannot be exported, 130 interrupted.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run's folder, or a checkpoint in it")
    parser.add_argument("folder", metavar="MODEL", type=Path, help="folder to write")
    parser.add_argument(
        "--overlap", type=float, default=OVERLAP, help="of patches, in the program (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="patches predicted at once, in the program (%(default)s)"
    )
    parser.add_argument("--licence", default=LICENCE, help="of the weights, for their users (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)

    from vocalsep_jax.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        with terminated_as_interrupted():
            facts = export_model(
                options.checkpoint,
                options.folder,
                overlap=options.overlap,
                batch_size=options.batch_size,
                licence=options.licence,
            )
    except (runs.RunError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    log.info("the program's stems differ from the model's by %.1g", facts["program"]["largest_difference"])
    say(str(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
