"""The songs of a config, prepared in the song cache before a run needs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from vocalsep_jax.config import ConfigError, parse
from vocalsep_jax.data.placement import has_song_cache
from vocalsep_jax.runtime.beam_flags import pipeline_options
from vocalsep_jax.runtime.console import duration
from vocalsep_jax.training.plan import choose_songs

log = logging.getLogger(__name__)


def fill_song_cache(config: Any, beam_flags: Sequence[str] = ()) -> None:
    """Prepare the songs that a config trains and validates on, unless they are there already.

    Args:
      config: as `config.parse` takes it.
      beam_flags: flags of Apache Beam. With some, a pipeline prepares the songs; else this process does.

    Raises:
      ConfigError: if the config cannot be, or a flag; or if an extra is missing.
      SongError: if a song cannot be read, or the cache cannot be written.
    """
    config = parse(config)
    if not has_song_cache():
        raise ConfigError("the song cache needs TensorFlow: pip install 'vocalsep_jax[train]'")
    try:
        options = pipeline_options(beam_flags) if beam_flags else None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    from vocalsep_jax.data import tfds_songs

    write = tfds_songs.write_here
    if options is not None:
        from vocalsep_jax.data import beam_songs

        write = partial(beam_songs.write_by_pipeline, options)
    library, begin = choose_songs(config), time.monotonic()
    stores = tfds_songs.prepare(library, config.audio.sample_rate, config.data.cache, write)
    sound = sum(int(store.table.samples.sum()) for store in stores.values()) / config.audio.sample_rate
    log.info("%s of songs are prepared, in %s", duration(sound), duration(time.monotonic() - begin))
