"""What makes a folder when a careless reader loads it."""

from __future__ import annotations

import os
from pathlib import Path


class Evil:
    """Pickled, a call that makes a folder."""

    def __init__(self, canary: Path):
        """Make one that would make `canary`."""
        self._canary = str(canary)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self._canary,)
