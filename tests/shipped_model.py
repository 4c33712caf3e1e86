"""A model in the place of those that come with the package, for tests."""

import json

from vocalsep_jax.runs.exported import write_weights

FACTS = {
    "model": "run",
    "step": 1200,
    "stems": ["vocals", "no_vocals"],
    "sample_rate": 8000,
    "channels": 2,
    "stft": {"n_fft": 62, "hop": 21, "window": "periodic Hann"},
    "parameters": 16581,
    "training": {"config": "ship", "songs": {"train": 3}, "validation": None},
    "licence": "CC0-1.0",
    "versions": {"vocalsep_jax": "0.1.0"},
}


def write_model(folder, arrays, dtype="float16", **changes):
    """What `vocalsep export --weights-only` leaves, but for the config; gives its `model.json`."""
    folder.mkdir(parents=True)
    weights = {"file": "weights.npz", "dtype": dtype, "sha256": write_weights(folder, arrays, dtype)}
    facts = FACTS | {"weights": weights | {"largest_difference": 0.0003}} | changes
    (folder / "model.json").write_text(json.dumps(facts))
    return facts
