"""List the models that come with this package, or print the card of one.

vocalsep models [NAME] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocalsep_jax.runs.exported import read_facts
from vocalsep_jax.runs.folder import RunError, read_json
from vocalsep_jax.runs.shipped import CARD, CARD_FACTS, default_model, shipped_models
from vocalsep_jax.runtime.console import one_line, say, start_logging

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="vocalsep models",
        description="List the models that come with this package: what `--checkpoint` takes by name.",
        epilog="Exit code: 0 done, 2 wrong usage, or no such model.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="print the card of this model")
    parser.add_argument("--json", action="store_true", help="print what is known as JSON")
    options = parser.parse_args(argv)
    start_logging()
    try:
        models = shipped_models()
        if not models:
            raise RunError("no model comes with this package; `vocalsep separate --checkpoint` takes yours")
        if options.name is not None:
            if options.name not in models:
                raise RunError(f"no model {options.name!r}; there are {', '.join(models)}")
            models = {options.name: models[options.name]}
        if options.name is not None and not options.json:
            say(_card(models[options.name]))
        else:
            listed = {name: describe(folder) for name, folder in models.items()}
            say(json.dumps(listed, indent=2) if options.json else _table(listed))
    except RunError as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    return 0


def describe(folder: Path) -> dict[str, Any]:
    """What is known of a shipped model.

    Returns:
      `default` (whether it is), `bytes` (of its weights), `parameters`, `sample_rate` (Hz), `channels` that
      the network sees together, `licence`, `sha256`; and of its card, if there is one, `songs` (trained on)
      and `scores`, as `card.json` has them.

    Raises:
      RunError: if its `model.json` or `card.json` is damaged.
    """
    facts = read_facts(folder)
    card = read_json(folder / CARD_FACTS) if (folder / CARD_FACTS).is_file() else {}
    try:
        return {
            "default": folder.name == default_model(),
            "bytes": (folder / facts["weights"]["file"]).stat().st_size,
            "parameters": facts["parameters"],
            "sample_rate": facts["sample_rate"],
            "channels": facts["channels"],
            "licence": facts["licence"],
            "sha256": facts["weights"]["sha256"],
            "songs": card.get("songs", {}).get("train", []),
            "scores": card.get("scores", {}),
        }
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise RunError(f"{folder}: not a model that `vocalsep export` wrote ({error!r})") from error


def _card(folder: Path) -> str:
    try:
        return (folder / CARD).read_text(encoding="utf-8").rstrip()
    except OSError as error:
        raise RunError(f"{folder / CARD}: {error.strerror}") from error


def _table(models: dict[str, dict[str, Any]]) -> str:
    """A row a model; columns as wide as they must be."""
    rows = [("model", "size", "parameters", "rate", "channels", "trained on", "median uSDR", "licence")]
    for name, model in models.items():
        median = model["scores"].get("medians", {}).get("model", {}).get("vocals_usdr")
        rows.append(
            (
                f"{name} (default)" if model["default"] else name,
                f"{model['bytes'] / 1e6:.1f} MB",
                f"{model['parameters']:,}",
                f"{model['sample_rate']} Hz",
                "stereo" if model["channels"] == 2 else "each by itself",
                f"{len(model['songs'])} songs" if model["songs"] else "",
                f"{median['median']:.2f} dB of {median['songs']} songs" if median else "",
                model["licence"],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main())
