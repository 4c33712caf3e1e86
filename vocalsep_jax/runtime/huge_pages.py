"""Memory in large pages, for the commands."""

from __future__ import annotations

import contextlib
import os
import sys


def restart_with_huge_pages() -> None:
    """Start this command again with malloc in pages of 2 MiB; once, on Linux.

    XLA takes the buffers of a program on a CPU from the C library each time it runs, over a gigabyte for a
    training step, and the kernel hands them over page by page: with 4 KiB each that is up to a quarter of
    the step. glibc reads its tunables only when a process starts. Where `GLIBC_TUNABLES` is set, even to
    nothing, it is left alone.
    """
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ:
        return
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
