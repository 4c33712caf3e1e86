"""Train from the command line: `python -m vocalsep_jax.main --config configs/base.py`.

Reads flags, connects the processes where there are several, and calls `training.loop.train_and_evaluate`.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import os
import signal
import sys

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

if importlib.util.find_spec("ml_collections") is None:
    sys.exit("error: config files need ml_collections: pip install ml_collections")

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from vocalsep_jax.runtime.console import one_line, start_logging

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; override fields as --config.batch_size=16.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder (default: runs/<config name>).")
_MULTIHOST = flags.DEFINE_bool(
    "multihost",
    None,
    "Train with several processes: found by themselves on TPU pods and under Slurm, else give the three "
    "flags below. The default on a TPU VM and with these flags.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_PEER_TIMEOUT = flags.DEFINE_integer(
    "peer_timeout",
    60,
    "Seconds after which a process that does not answer is given up by the others, which then end; five "
    "times as many for all to be there at the start, ten times for one that answers but takes no step.",
    lower_bound=1,
)
_PROFILE = flags.DEFINE_integer(
    "profile", 0, "Trace so many calls of the step into the run's folder, `profile`.", lower_bound=0
)
_PREPARE_SONGS = flags.DEFINE_bool(
    "prepare_songs",
    False,
    "Only prepare the songs of the config, in the cache that runs read them from. With flags of Apache "
    "Beam after --, by a pipeline: -- --runner=FlinkRunner --flink_master=HOST:8081.",
)
flags.mark_flag_as_required("config")

log = logging.getLogger(__name__)


def on_tpu_vm() -> bool:
    """Whether this machine has TPU chips and the library to drive them."""
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def main(argv: list[str]) -> int:
    """Run; returns the exit code: 0 done (or at its time limit), 1 failed, 128 + n stopped by signal n.

    One of several processes that fails does not return: leaving as usual, it would wait for the others,
    which wait for it.
    """
    import jax

    if _PREPARE_SONGS.value:
        return _prepare_songs(argv[1:])
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument: {argv[1]}")
    multihost = _MULTIHOST.value
    if multihost is None:
        multihost = _COORDINATOR.value is not None or on_tpu_vm()
    if multihost:
        jax.distributed.initialize(
            coordinator_address=_COORDINATOR.value,
            num_processes=_PROCESSES.value,
            process_id=_PROCESS_ID.value,
            initialization_timeout=5 * _PEER_TIMEOUT.value,
            heartbeat_timeout_seconds=_PEER_TIMEOUT.value,
            shutdown_timeout_seconds=_PEER_TIMEOUT.value,
        )
    _start_logging()
    if jax.process_index() != 0:
        logging.getLogger().setLevel(logging.ERROR)
    config = _CONFIG.value
    workdir = _WORKDIR.value or f"runs/{config.name}"
    log.info(
        "%s in %s: %d %s device(s), %d process(es)",
        config.name,
        workdir,
        jax.device_count(),
        jax.devices()[0].platform,
        jax.process_count(),
    )

    from vocalsep_jax.config import ConfigError
    from vocalsep_jax.data.songs import SongError
    from vocalsep_jax.runs.folder import RunError
    from vocalsep_jax.runtime.compile_cache import use_compile_cache
    from vocalsep_jax.training.loop import TrainingDivergedError, train_and_evaluate

    use_compile_cache()
    try:
        outcome = train_and_evaluate(
            config, workdir, stall_seconds=10 * _PEER_TIMEOUT.value, profile_calls=_PROFILE.value
        )
        return 128 + outcome.signal if outcome.signal else 0
    except (ConfigError, SongError, RunError, TrainingDivergedError) as error:
        log.error("error: %s", one_line(str(error)))
        code = 1
    except KeyboardInterrupt:  # before the first step, or a second time
        log.error("interrupted")
        code = 128 + signal.SIGINT
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):  # what a collective raises
            log.error("error: %s; see what the other processes say", str(error).splitlines()[0])
        else:
            log.exception("error:")
        code = 1
    if jax.process_count() > 1:
        os._exit(code)
    return code


def _prepare_songs(beam_flags: list[str]) -> int:
    """Fill the song cache; returns the exit code. Accelerators, which may be at work, are left alone."""
    import jax

    from vocalsep_jax.config import ConfigError
    from vocalsep_jax.data.songs import SongError
    from vocalsep_jax.training.song_cache import fill_song_cache

    jax.config.update("jax_platforms", "cpu")
    _start_logging()
    try:
        fill_song_cache(_CONFIG.value, beam_flags)
        return 0
    except (ConfigError, SongError) as error:
        log.error("error: %s", one_line(str(error)))
        return 1
    except KeyboardInterrupt:
        log.error("interrupted")
        return 128 + signal.SIGINT


def _start_logging() -> None:
    logging.getLogger().removeHandler(absl.logging.get_absl_handler())  # we have our own
    start_logging("%(asctime)s %(message)s")


def _parse(argv: list[str]) -> list[str]:
    """Read the flags; a wrong one, or a config that is missing or has no such field, is one line."""
    try:
        rest = flags.FLAGS(argv)
        _ = _CONFIG.value.name  # a config file that cannot be read says so only when it is used
        return rest
    except flags.Error as error:  # its last line is the reason
        sys.exit(f"error: {_short(str(error).strip().splitlines()[-1])}")
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        text = str(error.args[0] if error.args else error).strip()
        sys.exit(f"error: --config: {_short(text)}")


def _short(text: str) -> str:
    """A message of absl as one line of some length: it repeats what it was given, whole."""
    line = one_line(" ".join(text.split()))
    return line if len(line) <= 500 else f"{line[:500]}..."


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
