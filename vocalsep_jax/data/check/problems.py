"""What is wrong with songs, and what to do about it.

Errors make training impossible, or its results worthless. Warnings are worth a look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vocalsep_jax.data.check.alignment import Alignment
from vocalsep_jax.data.check.matching import Match, find_matches
from vocalsep_jax.data.check.song import RECORDINGS, SongReport
from vocalsep_jax.data.songs import ACCOMPANIMENT_STEMS

_LENGTHS_REFUSED, _LENGTHS_DIFFER = 1.0, 0.01  # seconds; training refuses the first
_SILENT_DB = -80.0  # peak, as training has it
_SAME = 0.99
_CLIPPED = 1e-4
_DC_OFFSET = 0.005
_CUT_OFF = 0.75  # of the Nyquist frequency
_RESIDUAL_DB = -30.0  # as training has it: more than what lossy coding changes
_ALIGNED = 0.9  # correlation beyond which a delay or a gain explains a difference
_VOICE_FOUND_LATE = 2.0  # times as correlated with a delay as without
_GAIN_DB = 0.25


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
      error: whether it is an error, not a warning.
      title: what it is.
      advice: what to do.
    """

    error: bool
    title: str
    advice: str


KINDS = {
    "refused": Kind(True, "Training would refuse the folder", "mend what is said of it"),
    "unreadable": Kind(True, "Files that cannot be read", "replace the file, or move its song away"),
    "unusable": Kind(True, "Songs that cannot be used", "mend what is said of them, or move them away"),
    "channels": Kind(True, "More than two channels", "mix the file down to stereo"),
    "lengths": Kind(True, "Stems that do not belong together", "replace the stem that is wrong"),
    "leak": Kind(
        True,
        "The same sound in two of training, validation and test",
        "move one of the two songs away: scores of songs that were trained on say nothing",
    ),
    "same_stems": Kind(True, "Vocals and accompaniment are the same", "replace the stem that is wrong"),
    "no_voice": Kind(True, "No voice in any training song", "are the vocals.* files the right ones?"),
    "skipped": Kind(False, "Not used", "add what is missing, or ignore it"),
    "silent": Kind(False, "Silent stems", "replace the stem, or move its song away"),
    "bleed": Kind(
        False, "Vocals that are in the accompaniment too", "is it the mixture? Replace it by the right stem"
    ),
    "mixture": Kind(
        False,
        "Given mixture and stems differ",
        "training uses the stems' sum; scores use the given mixture: give the right one, or delete it",
    ),
    "duplicate": Kind(
        False,
        "The same sound in two songs of a split",
        "move one away: it counts twice, and could be chosen for validation while the other is trained on",
    ),
    "lengths_slightly": Kind(
        False, "Stems of different lengths", "they are cut to the shortest; is it so?"
    ),
    "rates": Kind(
        False, "Sample rates that differ", "nothing: they are resampled; is the file the right one?"
    ),
    "clipping": Kind(False, "Clipping", "use a version that was not so loud, if there is one"),
    "dc_offset": Kind(False, "DC offset", "filter it out, or leave it: it is no sound"),
    "cut_off": Kind(
        False,
        "Nothing at high frequencies",
        "it was lossy-coded or upsampled: use a better version, if there is one",
    ),
    "unknown_layout": Kind(False, "Not examined", "this layout is not known to the check"),
}
"""All problems there are, errors first, in the order in which they are shown."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a song.

    Attributes:
      kind: one of `KINDS`.
      song: its name; empty if it is the folder.
      reason: what is wrong, in one line.
    """

    kind: str
    song: str
    reason: str

    @property
    def error(self) -> bool:
        """Whether it is an error, not a warning."""
        return KINDS[self.kind].error


@dataclass(frozen=True)
class SharedSound:
    """The same sound in two songs.

    Attributes:
      song, other: the songs; `song` is the later of them in train, valid, test.
      splits: the splits of both.
      recordings: which of `RECORDINGS` they share.
      longest: of these, the match that is longest; its `second` is `song`.
    """

    song: str
    other: str
    splits: tuple[str, str]
    recordings: tuple[str, ...]
    longest: Match


def shared_sounds(reports: Sequence[SongReport]) -> list[SharedSound]:
    """The same sound in two songs, in all pairs of songs; `reports` are in the order train, valid, test."""
    pairs: dict[tuple[int, int], dict[str, Match]] = {}
    printed = [report for report in reports if report.fingerprints]
    for recording in RECORDINGS:
        for match in find_matches([report.fingerprints[recording] for report in printed]):
            pairs.setdefault((match.first, match.second), {})[recording] = match
    result = []
    for (first, second), found in sorted(pairs.items()):
        other, song = printed[first].song, printed[second].song
        longest = max(found.values(), key=lambda match: match.seconds)
        result.append(SharedSound(song.name, other.name, (song.split, other.split), tuple(found), longest))
    return result


def find_problems(reports: Sequence[SongReport], shared: Sequence[SharedSound]) -> list[Problem]:
    """All problems of songs and of pairs of songs, errors first."""
    problems = [
        Problem(kind, report.song.name, reason)
        for report in reports
        for rule in _RULES
        for kind, reason in rule(report)
    ]
    problems += [_of_shared(sound) for sound in shared]
    problems += _of_all(reports)
    order = list(KINDS)
    return sorted(problems, key=lambda problem: order.index(problem.kind))


def _of_shared(sound: SharedSound) -> Problem:
    match = sound.longest
    where = f" (at {clock(match.begins)}, {clock(match.begins + match.offset)} there)"
    reason = (
        f"{match.seconds:.0f} s of its {' and '.join(sound.recordings)}{where} "
        f"are in {sound.splits[1]}/{sound.other} too"
    )
    kind = "duplicate" if sound.splits[0] == sound.splits[1] else "leak"
    return Problem(kind, f"{sound.splits[0]}/{sound.song}", reason)


def clock(seconds: float) -> str:
    """Seconds as `m:ss`."""
    sign, whole = "-" if seconds <= -0.5 else "", abs(round(seconds))
    return f"{sign}{whole // 60}:{whole % 60:02d}"


def _of_all(reports: Sequence[SongReport]) -> Iterator[Problem]:
    trained = [report for report in reports if report.song.split == "train" and report.usable]
    if trained and not any(report.active.any() for report in trained):
        yield Problem("no_voice", "", f"none of {len(trained)} songs has a voice louder than -80 dBFS")
    rates = Counter(levels.rate for report in reports for levels in report.levels.values())
    for report in reports:
        own = {levels.rate for levels in report.levels.values()}
        if len(own) == 1 and not own & {rates.most_common(1)[0][0]}:
            usual = rates.most_common(1)[0][0]
            yield Problem("rates", report.song.name, f"{own.pop()} Hz, where most songs have {usual} Hz")


Found = Iterator[tuple[str, str]]
"""Kinds and reasons."""


def _files(report: SongReport) -> Found:
    for stem, reason in report.damage.items():
        yield "unreadable", f"{report.song.stems[stem].path.name}: {reason}"
    for stem, levels in report.levels.items():
        if levels.channels > 2:
            yield "channels", f"{stem} has {levels.channels} channels"
    if not report.song.stems:
        yield "unknown_layout", f"{report.song.path.name}: its files are not known"


def _lengths(report: SongReport) -> Found:
    lengths = {stem: levels.seconds for stem, levels in report.levels.items()}
    if len(lengths) > 1 and (apart := max(lengths.values()) - min(lengths.values())) > _LENGTHS_DIFFER:
        listed = ", ".join(f"{stem} {seconds:.2f} s" for stem, seconds in lengths.items())
        yield "lengths" if apart > _LENGTHS_REFUSED else "lengths_slightly", listed


def _rates(report: SongReport) -> Found:
    if len({levels.rate for levels in report.levels.values()}) > 1:
        yield "rates", ", ".join(f"{stem} {levels.rate} Hz" for stem, levels in report.levels.items())


def _silence(report: SongReport) -> Found:
    for stem, levels in report.levels.items():
        if levels.peak_db is None or levels.peak_db < _SILENT_DB:
            peak = "all zeros" if levels.peak_db is None else f"peak {levels.peak_db:.0f} dBFS"
            yield "silent", f"{stem}: {peak}"


def _samples(report: SongReport) -> Found:
    for stem, levels in report.levels.items():
        if levels.clipped_share > _CLIPPED and levels.clipped_runs:
            yield (
                "clipping",
                f"{stem}: {100 * levels.clipped_share:.2g} % of samples at full scale, "
                f"{levels.clipped_runs} runs of 3 or more, the longest of {levels.longest_run}",
            )
        if abs(levels.dc_offset) > _DC_OFFSET:
            yield "dc_offset", f"{stem}: {100 * levels.dc_offset:.1f} % of full scale"


def _bandwidth(report: SongReport) -> Found:
    edges = [(x.band_edge_hz, x) for x in report.levels.values() if x.band_edge_hz is not None]
    if edges:
        edge, levels = max(edges, key=lambda item: item[0])
        if levels.cut_off and edge < _CUT_OFF * levels.rate / 2:
            yield "cut_off", f"cut off at {edge / 1000:.1f} kHz, at a sample rate of {levels.rate} Hz"


def _stems(report: SongReport) -> Found:
    correlation = report.stem_correlation
    if correlation is not None and abs(correlation) >= _SAME:
        yield "same_stems", f"their correlation is {correlation:.3f}"
    elif report.fingerprints:
        both = [report.fingerprints["accompaniment"], report.fingerprints["vocals"]]
        matches = find_matches(both)
        if matches and matches[0].seconds >= report.voiced_seconds / 2:
            yield "bleed", f"{matches[0].seconds:.0f} s of its vocals are heard in its accompaniment"


def _mixture(report: SongReport) -> Found:
    alignment = report.alignment
    if report.residual_db is None or report.residual_db <= _RESIDUAL_DB:
        return
    if "accompaniment" in report.levels or report.levels.keys() >= set(ACCOMPANIMENT_STEMS):
        reason = f"mixture minus stems is {report.residual_db:.1f} dB relative to the mixture"
        if alignment is not None and abs(alignment.correlation) >= _ALIGNED:
            reason += _explained(alignment, report.rate)
        yield "mixture", reason
    elif alignment is not None and alignment.delay:
        found, as_it_is = abs(alignment.correlation), abs(alignment.correlation_as_it_is)
        if found > 0.3 and found > _VOICE_FOUND_LATE * as_it_is:
            late = _delay(alignment.delay, report.rate)
            yield "mixture", f"the voice in the mixture is {late} than the vocals"


def _explained(alignment: Alignment, rate: int) -> str:
    """By what a mixture differs, if it is a delay or a gain."""
    gain = 20 * np.log10(max(abs(alignment.gain), 1e-10))
    parts = []
    if alignment.delay:
        parts.append(_delay(alignment.delay, rate))
    if abs(gain) > _GAIN_DB:
        parts.append(f"{abs(gain):.1f} dB {'louder' if gain > 0 else 'softer'}")
    if alignment.gain < 0:
        parts.append("upside down")
    left = 10 * np.log10(max(1 - alignment.correlation**2, 1e-10))
    return f"; it is {', '.join(parts)}, else {left:.0f} dB" if parts else ""


def _delay(samples: int, rate: int) -> str:
    side = "later" if samples > 0 else "earlier"
    return f"{abs(samples)} samples ({1000 * abs(samples) / rate:.1f} ms) {side}"


_RULES: tuple[Callable[[SongReport], Found], ...] = (
    _files,
    _lengths,
    _rates,
    _silence,
    _stems,
    _mixture,
    _samples,
    _bandwidth,
)
"""What may be wrong with a song by itself."""
