"""The models that come with this package: folders in `shipped/`, and the default among them.

shipped/default.txt        the default's name
shipped/NAME/              what `vocalsep export --weights-only` wrote
shipped/NAME/MODEL_CARD.md, card.json
what `tools/model_card.py` wrote
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

CARD = "MODEL_CARD.md"
CARD_FACTS = "card.json"


def shipped_folder() -> Path:
    """Where the models are; there need not be such a folder."""
    return Path(str(importlib.resources.files("vocalsep_jax") / "shipped"))


def shipped_models() -> dict[str, Path]:
    """The folder of each model, by its name, sorted."""
    folders = sorted(shipped_folder().glob("*/"))
    return {folder.name: folder for folder in folders if (folder / "model.json").is_file()}


def default_model() -> str | None:
    """The name of the model that is used where none is asked for; None if there is none."""
    try:
        return (shipped_folder() / "default.txt").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
