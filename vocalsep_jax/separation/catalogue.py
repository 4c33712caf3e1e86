"""A catalogue of songs as an Apache Beam pipeline: any of Beam's file systems, any of its engines.

Songs are matched, grouped by the name of their outputs and separated, each for itself. What became of them
is in the outputs, in the dead-letter file and in the pipeline's counters. Paths travel through it as bytes,
since names of files need not be text.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import json
import logging
import os
import posixpath
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState
from apache_beam.utils.shared import Shared

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import SUFFIXES, AudioError, track_name
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.compile_cache import use_compile_cache
from vocalsep_jax.runtime.console import duration, one_line
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import Separated
from vocalsep_jax.separation.tracks import FILENAME, absolute, find_tracks, output_files

log = logging.getLogger(__name__)

_COUNTERS = "vocalsep"
"""The namespace of the counters."""

_SONGS = "songs"
_FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """What the songs of a catalogue have in common.

    Attributes:
      checkpoint, options: arguments of `Separator`.
      folder: where the tracks' folders go: `OUT/<model>`, on any file system.
      stems: which are written.
      encoding, clip_mode: as `Separator.separate_to` has them.
    """

    checkpoint: str | None
    options: dict[str, Any]
    folder: str
    stems: Sequence[str]
    encoding: Encoding
    clip_mode: str


@dataclass(frozen=True)
class Counts:
    """What a pipeline has counted.

    Attributes:
      done, skipped, failed: songs.
      milliseconds: of the songs that were done.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    milliseconds: int = 0

    @classmethod
    def of(cls, result: Any) -> Counts:
        """Those of the result of a pipeline that has ended."""
        counts: collections.Counter[str] = collections.Counter()
        for found in result.metrics().query(MetricsFilter().with_namespace(_COUNTERS))["counters"]:
            counts[found.key.metric.name] += found.result  # each step has its own
        return cls(**counts)

    def text(self, seconds: float) -> str:
        """In words; `seconds` is how long it took."""
        sound = self.milliseconds / 1000
        return (
            f"{self.done} songs done, {self.skipped} there already, {self.failed} failed: "
            f"{duration(sound)} of sound in {duration(seconds)}, {sound / seconds:.1f} x real time"
        )


def is_local(path: str) -> bool:
    """Whether a path is of this machine; raises ValueError if Beam has no file system for it."""
    FileSystems.get_filesystem(path)
    return FileSystems.get_scheme(path) is None


def located(path: str) -> str:
    """A path that other processes understand, too; raises ValueError as `is_local`."""
    return str(absolute(Path(path))) if is_local(path) else path


def planned(options: PipelineOptions, inputs: Sequence[str], dead_letter: str, job: Job) -> beam.Pipeline:
    """A pipeline with all its steps; raises ValueError if its engine cannot be used so. See `build`."""
    try:
        pipeline = beam.Pipeline(options=options)
    except ImportError as error:  # the engine needs an extra of Beam's
        raise ValueError(str(error)) from error
    build(pipeline, inputs, dead_letter, job)
    return pipeline


def run(pipeline: beam.Pipeline) -> Counts:
    """Run a pipeline to its end; raises what its engine raises, if it fails."""
    result = pipeline.run()
    state = result.wait_until_finish()
    if state != PipelineState.DONE:
        raise RuntimeError(f"it ended as {state}")
    return Counts.of(result)


def build(pipeline: beam.Pipeline, inputs: Sequence[str], dead_letter: str, job: Job) -> None:
    """Add all steps to a pipeline.

    Args:
      pipeline: an empty one.
      inputs: files, folders and patterns, on any file system, as `located` gives them.
      dead_letter: file for the songs that failed, JSON lines of `input` and `reason`.
      job: what is done with each song.
    """
    songs = (
        pipeline
        | "Inputs" >> beam.Create([os.fsencode(name) for name in inputs])
        | "Match" >> beam.FlatMap(_match, job.folder).with_outputs(_FAILED, main=_SONGS)
    )
    # Groups are spread over the workers: no other reshuffle is needed. A song that is matched twice is in
    # one group, and so are songs whose outputs would have the same names.
    failed = songs[_SONGS] | "Name" >> beam.GroupByKey() | "Separate" >> beam.ParDo(_Separate(job))
    _ = (
        (songs[_FAILED], failed)
        | "Failures" >> beam.Flatten()
        | "Dead letter" >> beam.io.WriteToText(dead_letter, num_shards=1, shard_name_template="")
    )


def _failure(song: str, reason: str) -> str:
    """A line of the dead-letter file; counts the song."""
    Metrics.counter(_COUNTERS, "failed").inc()
    log.info("failed: %s: %s", one_line(song), one_line(reason))
    return json.dumps({"input": song, "reason": one_line(reason)})


def _match(encoded: bytes, folder: str) -> Iterator[Any]:
    """The songs that an input stands for, as track and path; or a failure. `folder` has earlier outputs."""
    name, count = os.fsdecode(encoded), 0
    try:
        found = _tracks(name, folder) if not is_local(name) else find_tracks([name], Path(folder))
        for path, track in found:
            count += 1
            yield os.fsencode(track), os.fsencode(path)
        if not count:
            raise AudioError("no audio files there")
    except (AudioError, BeamIOError, ValueError) as error:
        yield beam.pvalue.TaggedOutput(_FAILED, _failure(name, _reason(error)))


def _tracks(name: str, folder: str) -> Iterator[tuple[str, str]]:
    """What `find_tracks` gives, of a file system that is not this machine's."""
    folders = not glob.has_magic(name)
    patterns = [name, posixpath.join(name, "**")] if folders else [name]
    whole, *below = FileSystems.match(patterns)
    within = [file.path for match in below for file in match.metadata_list]
    if not within:  # where there are folders, one may match as a file
        yield from (
            (file.path, track_name(file.path))
            for file in whole.metadata_list
            if not file.path.startswith(f"{folder}/")
        )
    for path in sorted(within):
        if posixpath.splitext(path)[1].lower() in SUFFIXES and not path.startswith(f"{folder}/"):
            track = posixpath.join(posixpath.dirname(path), track_name(path))
            yield path, posixpath.relpath(track, name)


class _Separate(beam.DoFn):
    """Separates the first song of each group; gives the failures. One `Separator` serves a process."""

    def __init__(self, job: Job):
        self._job, self._shared = job, Shared()

    def setup(self) -> None:
        """Load the model, or find it loaded."""
        self._separator = self._shared.acquire(self._load)

    def _load(self) -> Separator:
        use_compile_cache()
        return Separator(self._job.checkpoint, **self._job.options)

    def process(self, group: tuple[bytes, Iterable[bytes]]) -> Iterator[str]:
        """Separate a song, unless its outputs are there; raises nothing."""
        track = os.fsdecode(group[0])
        first, *others = sorted({os.fsdecode(song) for song in group[1]})
        for song in others:
            yield _failure(song, f"its output would overwrite that of {first}")
        try:
            self._separate(first, track)
        except Exception as error:  # Beam would separate all songs of a bundle again, and then fail
            yield _failure(first, _reason(error))

    def _separate(self, song: str, track: str) -> None:
        job = self._job
        names = output_files(FILENAME, job.stems, track, job.encoding.container, Path())
        outputs = {stem: FileSystems.join(job.folder, *name.parts) for stem, name in names.items()}
        if all(map(FileSystems.exists, outputs.values())):
            Metrics.counter(_COUNTERS, "skipped").inc()
            return
        begin = time.monotonic()
        with _at_hand(song) as path, _put(outputs) as files:
            try:
                done = self._to_files(path, files)
            except AudioError as error:
                raise AudioError(str(error).removeprefix(f"{one_line(str(path))}: ")) from error
        Metrics.counter(_COUNTERS, "done").inc()
        Metrics.counter(_COUNTERS, "milliseconds").inc(round(1000 * done.seconds))
        seconds = time.monotonic() - begin
        log.info("%s: %.1f s, %.1f x real time", one_line(song), seconds, done.seconds / seconds)

    def _to_files(self, path: Path, files: dict[str, Path]) -> Separated:
        return self._separator.separate_to(
            path, files, encoding=self._job.encoding, clip_mode=self._job.clip_mode
        )


def _reason(error: Exception) -> str:
    """Why a song failed; an error that nobody expected with its class."""
    return str(error) if isinstance(error, AudioError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _at_hand(song: str) -> Iterator[Path]:
    """A song as a file of this machine, a copy if it is none."""
    if is_local(song):
        yield Path(song)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / posixpath.basename(song)
        with FileSystems.open(song) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield copy


@contextlib.contextmanager
def _put(outputs: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Files of this machine to be written; where the outputs are elsewhere, they go there afterwards."""
    if all(map(is_local, outputs.values())):
        files = {stem: Path(output) for stem, output in outputs.items()}
        for file in files.values():
            disk.remove_abandoned(file)
        yield files
        return
    with tempfile.TemporaryDirectory() as folder:
        files = {stem: Path(folder) / posixpath.basename(output) for stem, output in outputs.items()}
        yield files
        partial = {stem: f"{output}.partial" for stem, output in outputs.items()}
        for stem, file in files.items():
            with file.open("rb") as source, FileSystems.create(partial[stem]) as target:
                shutil.copyfileobj(source, target)
        FileSystems.rename([*partial.values()], [*outputs.values()])
