"""The song cache, written by an Apache Beam pipeline: songs are prepared by as many workers as it has.

What is written is the data set of `tfds_songs`. All workers have to see the songs and the cache under the
same paths, and to have this package with what it needs for training.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from vocalsep_jax.data.prepared import SPLITS, prepare_song
from vocalsep_jax.data.songs import Library, Song, SongError
from vocalsep_jax.data.tfds_songs import NotesFromFile, SongChunks, examples, note_of, write_data_set

log = logging.getLogger(__name__)

_NOTES = "notes"
_EXAMPLES = "examples"


class BeamSongChunks(SongChunks, skip_registration=True):  # type: ignore[call-arg]
    """The builder of the same data set, whose songs are prepared by a pipeline."""

    name = SongChunks.name

    def __init__(self, *, data_dir: str, **kwargs: Any):
        """As `SongChunks`; notes of the songs lie in the folder `data_dir` until all are prepared."""
        self._notes = Path(data_dir) / "notes.json"
        super().__init__(data_dir=data_dir, **kwargs)

    def _metadata(self) -> NotesFromFile:
        return NotesFromFile(self._notes)

    def _split_generators(  # type: ignore[override]  # TFDS passes a pipeline to those that take one
        self, dl_manager: Any, pipeline: beam.Pipeline
    ) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        assert self._library is not None
        found = {}
        for split in SPLITS:
            songs = self._library.splits[split]
            prepare = beam.FlatMap(_prepared, split, songs, self._sample_rate)
            found[split] = (
                pipeline
                | f"Songs of {split}" >> beam.Create(range(len(songs)))
                | f"Spread {split}" >> beam.Reshuffle()
                | f"Prepare {split}" >> prepare.with_outputs(_NOTES, main=_EXAMPLES)
            )
        self.info.metadata["fingerprint"] = self._library.fingerprint(SPLITS)
        _ = (
            [found[split][_NOTES] for split in SPLITS]
            | "All notes" >> beam.Flatten()
            | "Gather notes" >> beam.combiners.ToList()
            | "Sort notes" >> beam.Map(_by_split)
            | "As text" >> beam.Map(json.dumps)
            | "Write notes" >> beam.io.WriteToText(str(self._notes), num_shards=1, shard_name_template="")
        )
        # TFDS refuses to write a split of nothing.
        return {split: found[split][_EXAMPLES] for split in SPLITS if self._library.splits[split]}


def _prepared(number: int, split: str, songs: Sequence[Song], sample_rate: int) -> Iterator[Any]:
    """The examples of a song of a split with their keys; and its note, with the split and the number."""
    prepared = prepare_song(songs[number], sample_rate)
    yield beam.pvalue.TaggedOutput(_NOTES, (split, number, note_of(prepared)))
    yield from examples(number, prepared)


def _by_split(notes: list[tuple[str, int, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    ordered = sorted(notes, key=lambda note: note[:2])
    return {split: [note for there, _, note in ordered if there == split] for split in SPLITS}


def write_by_pipeline(options: PipelineOptions, library: Library, sample_rate: int, folder: Path) -> None:
    """Write the data set of a library into its folder, by a pipeline.

    Raises:
      SongError: if it fails.
    """
    log.info("by a pipeline, whose engine tells how far it is")
    builder = BeamSongChunks(library=library, sample_rate=sample_rate, data_dir=str(folder))
    try:
        write_data_set(builder, beam_options=options)
    except Exception as error:  # engines raise errors of many kinds, with those of their workers as text
        log.debug("the pipeline:", exc_info=True)
        said = str(error).strip() or type(error).__name__
        reason = re.search(rf"{SongError.__name__}: (.*)", said)
        line = reason[1] if reason else said.splitlines()[-1]
        raise SongError(line.partition(" [while running")[0]) from error
