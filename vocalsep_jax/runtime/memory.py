"""The memory of the machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process can take without making the machine swap.

    On Linux it is what the kernel says, or what is left to the container if that is less. Where neither
    says anything, it is half of the machine's memory.

    Args:
      root: folder that holds `proc` and `sys`.
    """
    free = []
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
        group = root / "sys/fs/cgroup"
        limit, used = (int((group / f"memory.{x}").read_text()) for x in ("max", "current"))
        free.append(max(0, limit - used))
    return min(free) if free else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
