"""Compiled programs, kept from one start to the next."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax

FOLDER = "~/.cache/vocalsep_jax/compiled"


def use_compile_cache() -> None:
    """Let JAX keep programs that take over a second to compile, and read them when they are needed again.

    The commands call this; a program that uses the library decides for itself. If a folder was chosen
    already (`JAX_COMPILATION_CACHE_DIR`), it stays chosen. If none can be made, there is no cache.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    # Programs for CPUs hold instructions that another CPU, sharing this home folder, may lack.
    folder = Path(FOLDER).expanduser() / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _processor() -> str:
    """A name for this kind of processor: its architecture, and a hash of its features where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
