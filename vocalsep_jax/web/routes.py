"""What the browser asks of a song: how far it is, its stems, samples to play, pictures, a zip, its end.

Every address holds the song's key, which only the browser that brought the song has been told; without it
there is nothing to be had. No part of an address becomes part of a path.
"""

from __future__ import annotations

import contextlib
import io
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import AudioError, Reader, Writer
from vocalsep_jax.separation.stem_files import STEMS, Separated
from vocalsep_jax.web.jobs import Job, Jobs
from vocalsep_jax.web.spectrogram import HIGHEST, LOWEST, RANGE_DB, picture, spectrogram
from vocalsep_jax.web.storage import Storage, StorageFullError

PREFIX = "/songs"

_MOST_SAMPLES = 2**23
"""Samples of all channels together that are given at a time."""

_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Songs:
    """The addresses below `PREFIX`."""

    def __init__(self, jobs: Jobs, storage: Storage):
        self._jobs, self._storage = jobs, storage

    def routes(self) -> list[Route]:
        """For Starlette's router."""
        return [
            Route(f"{PREFIX}/{{key}}/state", self.state),
            Route(f"{PREFIX}/{{key}}/remove", self.remove, methods=["POST"]),
            Route(f"{PREFIX}/{{key}}/all.zip", self.archive),
            Route(f"{PREFIX}/{{key}}/{{stem}}/file", self.file),
            Route(f"{PREFIX}/{{key}}/{{stem}}/samples", self.samples),
            Route(f"{PREFIX}/{{key}}/{{stem}}/picture.png", self.picture),
        ]

    async def state(self, request: Request) -> Response:
        """How far a song is, as JSON; where it is done, what the mixer needs to know."""
        job = self._find(request)
        now = job.ended or time.monotonic()
        state: dict[str, Any] = {
            "title": job.title,
            "state": job.state,
            "model": job.wish.model,
            "place": self._jobs.place(job),
            "done": job.done,
            "total": job.total,
            "seconds": now - job.begun if job.begun else 0.0,
            "message": job.message,
        }
        if result := job.result:
            state |= {
                "rate": result.sample_rate,
                "samples": result.samples,
                "channels": result.channels,
                "clipped": result.clipped,
                "start": job.wish.start,
                "container": job.wish.encoding.container,
                "picture": {"lowest": LOWEST, "highest": HIGHEST, "range": RANGE_DB},
            }
        return JSONResponse(state, headers=_NO_STORE)

    async def remove(self, request: Request) -> Response:
        """Cancel it, and delete all of it."""
        await run_in_threadpool(self._jobs.remove, [self._find(request)])
        return JSONResponse({}, headers=_NO_STORE)

    async def file(self, request: Request) -> Response:
        """A stem's file, as the command writes it."""
        job, _ = self._done(request)
        stem = _stem(request)
        return FileResponse(job.outputs[stem], filename=_file_name(job, stem), headers=_NO_STORE)

    async def archive(self, request: Request) -> Response:
        """Both stems in a zip, made while it is sent."""
        job, _ = self._done(request)
        members = {_file_name(job, stem): path for stem, path in job.outputs.items()}
        name = urllib.parse.quote(f"{job.title}.zip", safe="")
        disposition = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        return StreamingResponse(
            _zip(members), media_type="application/zip", headers=_NO_STORE | disposition
        )

    async def samples(self, request: Request) -> Response:
        """Samples `start` to `start + count` of a stem, little-endian float32 `[S, C]`."""
        job, result = self._done(request)
        stem = _stem(request)
        try:
            start, count = (int(request.query_params.get(name, "")) for name in ("start", "count"))
        except ValueError:
            raise HTTPException(400) from None
        if not (0 <= start < result.samples and 0 < count * result.channels <= _MOST_SAMPLES):
            raise HTTPException(400)
        content = await run_in_threadpool(self._samples, job, stem, start, count)
        return Response(content, media_type="application/octet-stream", headers=_NO_STORE)

    async def picture(self, request: Request) -> Response:
        """The spectrogram of a stem, or of the `mixture`."""
        job, result = self._done(request)
        what = _stem(request, "mixture")
        content = await run_in_threadpool(self._picture, job, result, what)
        return Response(content, media_type="image/png", headers=_NO_STORE)

    def _find(self, request: Request) -> Job:
        job = self._jobs.find(request.path_params["key"])
        if job is None:
            raise HTTPException(404)
        return job

    def _done(self, request: Request) -> tuple[Job, Separated]:
        job = self._find(request)
        if job.state != "done" or job.result is None:
            raise HTTPException(404)
        return job, job.result

    def _samples(self, job: Job, stem: str, start: int, count: int) -> bytes:
        path = job.outputs[stem]
        try:
            if path.suffix != ".wav":
                path = self._plain(job, path)
            with Reader(path) as reader:
                parts = [np.asarray(part, "<f4") for part in reader.blocks(start, count)]
        except AudioError:
            raise HTTPException(404) from None  # removed meanwhile
        except StorageFullError as error:
            raise HTTPException(507, str(error)) from None
        return np.concatenate(parts).tobytes()

    def _plain(self, job: Job, path: Path) -> Path:
        """A WAV file with the samples of another format, in which one can go to any place."""
        plain = path.with_name(f"{path.stem}.play.wav")
        if plain.exists():
            return plain
        with _making(job):  # both stems, and several browsers, may ask for it at the same time
            if not plain.exists():
                with Reader(path) as reader:
                    self._storage.check(2 * reader.channels * reader.frames)
                    with Writer(plain, reader.rate, reader.channels, Encoding(), reader.frames) as writer:
                        for block in reader.blocks():
                            writer.write(block)
                        writer.finish()
        return plain

    def _picture(self, job: Job, result: Separated, what: str) -> bytes:
        kept = job.folder / f"{what}.png"
        path, begin = job.song, round(job.wish.start * result.sample_rate)
        if what != "mixture":
            path, begin = job.outputs[what], 0
        try:
            with _making(job):
                if not kept.exists():
                    kept.write_bytes(picture(spectrogram(path, begin, result.samples)))
                return kept.read_bytes()
        except (AudioError, OSError):
            raise HTTPException(404) from None  # removed meanwhile


def _stem(request: Request, *others: str) -> str:
    """The stem that an address names, or another thing that there is."""
    stem: str = request.path_params["stem"]
    if stem not in (*STEMS, *others):
        raise HTTPException(404)
    return stem


@contextlib.contextmanager
def _making(job: Job) -> Iterator[None]:
    """Make something of a song's stems, in its folder, unless it was removed; one thing at a time."""
    with job.making:
        if job.unwanted.is_set():
            raise HTTPException(404)
        yield


def _file_name(job: Job, stem: str) -> str:
    """What a stem's file is called where the browser keeps it."""
    return f"{job.title} - {stem}{job.outputs[stem].suffix}"


class _Pipe(io.RawIOBase):
    """A file that is written to, and emptied meanwhile; it cannot be gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """What was written since the last time."""
        data, self._parts = b"".join(self._parts), []
        return data


def _zip(members: dict[str, Path]) -> Iterator[bytes]:
    """A zip of files by their names in it, stored as they are: audio does not get smaller."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, path in members.items():
            with path.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
                while chunk := source.read(2**18):
                    target.write(chunk)
                    yield pipe.taken()
            yield pipe.taken()
    yield pipe.taken()
