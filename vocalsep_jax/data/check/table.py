"""What was found in a folder of songs, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from vocalsep_jax.audio.files import STEM_FILE_SUFFIX
from vocalsep_jax.data.check.examination import Examination
from vocalsep_jax.data.check.files import SongFiles
from vocalsep_jax.data.check.meters import Levels
from vocalsep_jax.data.check.problems import KINDS, Problem, clock
from vocalsep_jax.data.check.song import SongReport
from vocalsep_jax.data.songs import ACCOMPANIMENT_STEMS, SPLITS
from vocalsep_jax.runtime.console import duration, one_line

_SHOWN = 20
"""Problems of a kind that are listed."""

_NAME = 44


def as_text(examination: Examination) -> str:
    """The songs, what they measure, what is wrong and whether they are fit to train on: lines of text."""
    lines = [f"{examination.root}", *_folder(examination), ""]
    if examination.reports:
        lines += [*_table(examination.reports), ""]
    lines += [*_problems(examination.problems), *_verdict(examination)]
    return "\n".join(map(one_line, lines))


def _folder(examination: Examination) -> Iterator[str]:
    reports = examination.reports
    layouts = Counter(layout(report.song) for report in reports)
    yield "layouts: " + (", ".join(f"{name} ({count})" for name, count in layouts.items()) or "none")
    levels = [x for report in reports for x in report.levels.values()]
    if levels:
        rates, channels = Counter(x.rate for x in levels), Counter(x.channels for x in levels)
        yield "files:   " + ", ".join(
            [f"{count} of {rate} Hz" for rate, count in rates.most_common()]
            + [f"{count} with {n} channel{'s' * (n > 1)}" for n, count in channels.most_common()]
        )
    library = examination.folder.library
    for name in SPLITS:
        songs = examination.split(name)
        seconds, voiced = sum(x.seconds for x in songs), sum(x.voiced_seconds for x in songs)
        share = f", voice in {100 * voiced / seconds:.0f} %" if seconds else ""
        why = f" ({library.validation_choice})" if library and name == "valid" else ""
        count = f"{len(songs)} song{'s' * (len(songs) != 1)}"
        yield f"{name + ':':9}{count}, {seconds / 3600:.2f} h{share}{why}"


def layout(song: SongFiles) -> str:
    """The layout of a song, in words."""
    if song.path.name.endswith(STEM_FILE_SUFFIX):
        return "MUSDB18 stem files"
    stems = song.stems.keys()
    if stems == {"accompaniment"}:
        return "accompaniment alone"
    if "accompaniment" in stems:
        return "vocals and accompaniment"
    if stems >= set(ACCOMPANIMENT_STEMS):
        return "MUSDB18-HQ folders"
    return "vocals and mixture" if "mixture" in stems else "other"


_HEADINGS = (
    "song", "split", "length", "voice", "voice/acc", "vocals rms", "peak", "edge", "side/mid", "acc. rms",
    "peak", "edge", "side/mid",
)  # fmt: skip
_UNITS = ("", "", "m:ss", "%", "dB", "dBFS", "dBFS", "kHz", "dB", "dBFS", "dBFS", "kHz", "dB")


def _table(reports: Sequence[SongReport]) -> Iterator[str]:
    """A line a song."""
    rows = [_HEADINGS, _UNITS, *map(_row, reports)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADINGS))]
    for row in rows:
        cells = [
            x.ljust(width) if n < 2 else x.rjust(width)
            for n, (x, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _row(report: SongReport) -> tuple[str, ...]:
    name = one_line(report.song.name)
    seconds = max((x.seconds for x in report.levels.values()), default=0.0)
    voiced = f"{100 * report.voiced_seconds / report.seconds:.0f}" if report.active.size else "-"
    other = next((x for stem, x in report.levels.items() if stem in ("accompaniment", "mixture")), None)
    return (
        name if len(name) <= _NAME else name[: _NAME - 1] + "…",
        report.song.split,
        clock(seconds),
        voiced,
        _number(report.voice_to_accompaniment_db),
        *_cells(report.levels.get("vocals")),
        *_cells(other),
    )


def _cells(levels: Levels | None) -> tuple[str, ...]:
    """RMS, peak, band edge and width of a stem."""
    if levels is None:
        return ("-",) * 4
    edge = "-" if levels.band_edge_hz is None else f"{levels.band_edge_hz / 1000:.1f}"
    width = "mono" if levels.side_to_mid_db is None else _number(levels.side_to_mid_db)
    return _number(levels.rms_db), _number(levels.peak_db), edge, width


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _problems(problems: Sequence[Problem]) -> Iterator[str]:
    for name, kind in KINDS.items():
        own = [problem for problem in problems if problem.kind == name]
        if own:
            yield f"{'error' if kind.error else 'warning'}: {kind.title}: {kind.advice}"
            for problem in own[:_SHOWN]:
                yield f"  {problem.song}: {problem.reason}" if problem.song else f"  {problem.reason}"
            if len(own) > _SHOWN:
                yield f"  and {len(own) - _SHOWN} more"
            yield ""


def _verdict(examination: Examination) -> Iterator[str]:
    errors = sum(problem.error for problem in examination.problems)
    warnings = len(examination.problems) - errors
    hours = duration(sum(report.seconds for report in examination.reports))
    state = "fit" if examination.fit else "not fit"
    yield (
        f"{state} to train on: {len(examination.reports)} songs, {hours}, "
        f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    )
