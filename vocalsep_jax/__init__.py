"""Singing-voice separation in JAX.

`Separator` separates songs; `train_and_evaluate` trains. Both are imported when they are first asked for:
importing this package takes no time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import would take longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from vocalsep_jax.separation.separator import Separator as Separator
    from vocalsep_jax.training.loop import train_and_evaluate as train_and_evaluate

__version__ = "0.1.0"

_PLACES = {"Separator": "separation.separator", "train_and_evaluate": "training.loop"}

__all__ = ["Separator", "__version__", "train_and_evaluate"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
