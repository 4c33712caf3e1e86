"""The command that serves a page on which songs are separated and mixed.

    vocalsep serve
    python -m vocalsep_jax.serve --checkpoint RUN --port 7860

Nothing leaves the machine, and nothing is kept.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import ipaddress
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax.runs.folder import RunError, find_checkpoint, find_run
from vocalsep_jax.runs.shipped import default_model, shipped_models
from vocalsep_jax.runtime.console import one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separation.arguments import CHECKPOINT, add_separator_options, separator_options
from vocalsep_jax.separation.separator import Separator

log = logging.getLogger(__name__)

AUTH_VARIABLE = "VOCALSEP_AUTH"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep serve",
        description="Serve a page on which songs are separated and mixed: drop them in, listen to voice "
        "and rest in step, take them with you. Nothing leaves the machine, and nothing is kept.",
        epilog="Exit code: 0 ended by Ctrl-C, 2 wrong usage or an address that cannot be used.",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="RUN",
        help=f"{CHECKPOINT}; given several times, there is a choice (all that come with the package)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="(%(default)s)")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask for these; needed for any address but this machine's own, and read from the environment "
        f"variable {AUTH_VARIABLE} too, where other users do not see it",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-size", type=float, default=500, metavar="MB", help="of a file (%(default)s)")
    limits.add_argument(
        "--max-duration", type=float, default=30, metavar="MINUTES", help="of a song (%(default)s)"
    )
    limits.add_argument(
        "--max-disk", type=float, default=10, metavar="GB", help="that all files take (%(default)s)"
    )
    limits.add_argument("--max-waiting", type=int, default=100, help="songs that wait (%(default)s)")
    limits.add_argument("--max-songs", type=int, default=20, help="of each user (%(default)s)")
    limits.add_argument(
        "--keep", type=float, default=60, metavar="MINUTES", help="for which a song is there (%(default)s)"
    )
    add_separator_options(parser.add_argument_group("separation"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    options = _parser().parse_args(argv)
    try:
        with terminated_as_interrupted():
            _run(options)
    except (RunError, ValueError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    except KeyboardInterrupt:
        log.info("stopped")
        return 0


def _run(options: argparse.Namespace) -> NoReturn:
    """Serve until it is interrupted; raises as `main` catches."""
    for name in ("max_size", "max_duration", "max_disk", "max_waiting", "max_songs", "keep"):
        if not 0 < getattr(options, name) < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    if not 0 < options.port < 2**16:
        raise ValueError(f"--port must be from 1 to {2**16 - 1}, not {options.port}")
    user = _user(options)
    models = _models(options.checkpoint)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("this needs gradio: pip install 'vocalsep_jax[web]'")

    from vocalsep_jax.runtime.compile_cache import use_compile_cache
    from vocalsep_jax.web.jobs import Jobs, Limits
    from vocalsep_jax.web.storage import Storage

    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio looks whether its server answers
    use_compile_cache()

    @functools.cache
    def load(model: str) -> Separator:
        separator = Separator(models[model], **separator_options(options))
        silence = np.zeros((separator.sample_rate, 2), np.float32)
        separator.separate(silence, separator.sample_rate)  # compiled before there is a song that waits
        return separator

    load(next(iter(models)))  # what is wrong with it, or with the options, is told now
    storage = Storage(int(options.max_disk * 1e9))
    os.environ["GRADIO_TEMP_DIR"] = str(storage.uploads)  # it is looked at when gradio is imported
    try:
        from vocalsep_jax.web.page import Address, served

        limits = Limits(
            60 * options.max_duration, options.max_waiting, options.max_songs, 60 * options.keep
        )
        jobs = Jobs(load, storage, limits)
        try:
            address = Address(options.host, options.port, user, _names(options.host))
            with served(jobs, storage, list(models), address, int(options.max_size * 1e6)) as url:
                say(url)
                while True:
                    threading.Event().wait()
        finally:
            jobs.stop()
    finally:
        storage.close()


def _user(options: argparse.Namespace) -> tuple[str, str] | None:
    """Name and password; raises ValueError if they are needed and missing."""
    given = options.auth or os.environ.get(AUTH_VARIABLE)
    if given:
        name, _, password = given.partition(":")
        if not name or not password:
            raise ValueError("--auth must be USER:PASSWORD")
        return name, password
    if not _loopback(options.host):
        raise ValueError(f"--host {options.host}: others can reach it, so --auth USER:PASSWORD is needed")
    return None


def _loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> frozenset[str] | None:
    """What a browser may call this server; anything where others reach it, by names that are not known."""
    return frozenset({"127.0.0.1", "localhost", "[::1]", host}) if _loopback(host) else None


def _models(given: Sequence[str] | None) -> dict[str, str | Path]:
    """Checkpoints by the names that they have on the page, the default first.

    Raises:
      RunError: if one of them is none.
      ValueError: if two have the same name.
    """
    if not given:
        first = default_model()
        shipped = shipped_models()
        return {name: shipped[name] for name in sorted(shipped, key=lambda name: (name != first, name))}
    models: dict[str, str | Path] = {}
    for checkpoint in given:
        name = find_run(find_checkpoint(checkpoint)).resolve().name
        if name in models:
            raise ValueError(f"two models are called {name}")
        models[name] = checkpoint
    return models


if __name__ == "__main__":
    sys.exit(main())
