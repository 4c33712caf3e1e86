"""Recordings in which the same sound occurs, found by their fingerprints.

Two recordings share a sound if many of their hashes are equal at one and the same offset of their times.
What is equal by chance is spread over all offsets: between songs, a handful at the most frequent one, or
1 % of the hashes of five seconds. Of the same sound in MP3 of 64 kbit/s, 8 % or more of those agree.

Axis letters: `H` hashes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vocalsep_jax.data.check.fingerprint import FRAMES_PER_SECOND, Fingerprint

SEGMENT_SECONDS = 5
"""What is shared is noted in segments of this length."""

SHARED_SECONDS = 10
"""Recordings with less than this in common (or half of the shorter one, if that is less) do not match."""

_SEGMENT = round(SEGMENT_SECONDS * FRAMES_PER_SECOND)
_SHARE, _COUNT = 0.04, 12
"""Of the hashes of a segment, at least so many agree if it is shared."""

_ABOVE_CHANCE = 8
"""And of all, so many times more than agree at an offset by chance."""

_JITTER = 1  # frames by which peaks move with where the frames begin
_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Match:
    """The same sound in two recordings.

    Attributes:
      first, second: their numbers, `first < second`.
      seconds: how much of `second` is in `first`, in whole segments, at most its length.
      begins: where in `second` that begins, seconds.
      offset: how much later it is in `first`, seconds.
      share: `seconds` of the shorter one's length, in (0, 1].
    """

    first: int
    second: int
    seconds: float
    begins: float
    offset: float
    share: float


def find_matches(recordings: Sequence[Fingerprint]) -> list[Match]:
    """All pairs of recordings that share a sound."""
    owners = np.repeat(np.arange(len(recordings), dtype=np.int32), [len(x.hashes) for x in recordings])
    nothing = [np.zeros(0, np.uint32)]
    hashes = np.concatenate([x.hashes for x in recordings] or nothing)
    order = np.argsort(hashes, kind="stable")
    times = np.concatenate([x.times for x in recordings] or nothing)[order].astype(np.int32)
    hashes, owners = hashes[order], owners[order]
    found = []
    for number, query in enumerate(recordings):
        for other, offset, chance in _candidates(query, number, hashes, times, owners, recordings):
            match = _confirmed(query, recordings[other], offset, chance)
            if match is not None:
                found.append(Match(other, number, *match))
    return found


def _candidates(
    query: Fingerprint,
    number: int,
    hashes: np.ndarray,
    times: np.ndarray,
    owners: np.ndarray,
    recordings: Sequence[Fingerprint],
) -> Iterator[tuple[int, int, float]]:
    """Recordings before `number` with enough equal hashes at one offset.

    Yields:
      Which; the offset in frames; and how many are equal at an offset by chance.
    """
    longest = max((x.frames for x in recordings), default=0) + query.frames + 2
    keys, counts = _offsets(query, number, hashes, times, owners, longest)
    if not len(keys):
        return
    own = keys // (2 * longest)
    for other in np.unique(own):
        mine = own == other
        offsets, number_at = keys[mine] % (2 * longest) - longest, counts[mine]
        # An offset with its two neighbours: the keys are sorted, but not all offsets are there.
        together, close = number_at.copy(), np.diff(offsets) <= _JITTER
        together[1:] += np.where(close, number_at[:-1], 0)
        together[:-1] += np.where(close, number_at[1:], 0)
        best = int(together.argmax())
        if together[best] >= _COUNT:
            possible = query.frames + recordings[other].frames
            near = 2 * _JITTER + 1
            yield int(other), int(offsets[best]), near * float(number_at.sum()) / max(1, possible)


def _offsets(
    query: Fingerprint,
    number: int,
    hashes: np.ndarray,
    times: np.ndarray,
    owners: np.ndarray,
    longest: int,
) -> tuple[np.ndarray, np.ndarray]:
    """How often each (recording, offset) occurs: sorted keys, int64, and counts.

    A key is `recording * 2 * longest + offset + longest`. Equal hashes are paired some at a time: songs
    that repeat themselves have very many.
    """
    left, right = (
        np.searchsorted(hashes, query.hashes, "left"),
        np.searchsorted(hashes, query.hashes, "right"),
    )
    piece = np.cumsum(right - left) // _PAIRS_AT_ONCE
    all_keys, all_counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    bounds = [*np.unique(piece, return_index=True)[1], len(piece)] if len(piece) else [0]
    for begin, end in itertools.pairwise(bounds):
        count = right[begin:end] - left[begin:end]
        asked = np.repeat(np.arange(begin, end), count)
        place = np.arange(len(asked)) - np.repeat(np.cumsum(count) - count, count) + left[asked]
        earlier = owners[place] < number
        asked, place = asked[earlier], place[earlier]
        keys = owners[place].astype(np.int64) * (2 * longest) + times[place] - query.times[asked] + longest
        new, counts = np.unique(keys, return_counts=True)
        all_keys, where = np.unique(np.concatenate([all_keys, new]), return_inverse=True)
        all_counts = np.bincount(where, np.concatenate([all_counts, counts])).astype(np.int64)
    return all_keys, all_counts


def _confirmed(
    query: Fingerprint, other: Fingerprint, offset: int, chance: float
) -> tuple[float, float, float, float] | None:
    """`Match.seconds`, `begins`, `offset` and `share`, or None if too little agrees."""
    known = np.sort((other.hashes.astype(np.int64) << 32) + other.times)
    agrees = np.zeros(len(query.hashes), bool)
    for jitter in range(-_JITTER, _JITTER + 1):
        wanted = (query.hashes.astype(np.int64) << 32) + query.times + offset + jitter
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        agrees |= known[place] == wanted
    if agrees.sum() < _ABOVE_CHANCE * chance:
        return None
    segments = -(-query.frames // _SEGMENT)
    there = np.bincount(query.times // _SEGMENT, minlength=segments)
    agreeing = np.bincount(query.times[agrees] // _SEGMENT, minlength=segments)
    shared = np.flatnonzero((agreeing >= _COUNT) & (agreeing >= _SHARE * there))
    shorter = min(query.seconds, other.seconds)
    seconds = min(float(len(shared) * SEGMENT_SECONDS), shorter)
    if seconds < min(SHARED_SECONDS, shorter / 2) or not len(shared):
        return None
    return seconds, float(shared[0] * SEGMENT_SECONDS), offset / FRAMES_PER_SECOND, seconds / shorter
