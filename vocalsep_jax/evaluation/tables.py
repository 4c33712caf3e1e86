"""Scores as tables: medians over songs, for the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vocalsep_jax.evaluation.bootstrap import Interval, median_interval, paired_interval
from vocalsep_jax.evaluation.full_scores import FRAME_SECONDS, Scores, columns, frame_columns
from vocalsep_jax.evaluation.methods import Method
from vocalsep_jax.runtime.console import one_line

Summary = dict[str, dict[str, Interval | None]]

DASH = "\N{EN DASH}"  # where there is no score

PRINTED = (
    "vocals_usdr",
    "vocals_sdr",
    "vocals_sir",
    "vocals_sar",
    "vocals_isr",
    "vocals_pes",
    "accompaniment_usdr",
    "accompaniment_sdr",
    "leakage",
)
"""The columns that are printed; files have all."""


@dataclass(frozen=True)
class Evaluation:
    """All that a call has found.

    Attributes:
      methods: those that were compared, checkpoints first.
      scores: of each song, by method.
      rate: Hz, at which the scores were taken.
      facts: what was measured and how, by name, for people; `command`, `date`, `versions`, ...
      failed: names of the songs that could not be scored.
    """

    methods: Sequence[Method]
    scores: dict[str, dict[str, Scores]]
    rate: int
    facts: dict[str, str]
    failed: Sequence[str] = ()

    @property
    def checkpoints(self) -> list[Method]:
        """The methods that are checkpoints."""
        return [m for m in self.methods if m.is_checkpoint]

    def values(self, method: str, column: str) -> list[float | None]:
        """A measure of a method, one value a song."""
        return [by_method[method].values[column] for by_method in self.scores.values()]

    def medians(self) -> Summary:
        """For each method and column the median over songs, with its interval; None if no song has one."""
        return {
            m.name: {c: median_interval(self.values(m.name, c)) for c in columns()} for m in self.methods
        }

    def differences(self) -> Summary:
        """For each checkpoint after the first and each column, by how much it is above the first."""
        first, *others = self.checkpoints
        return {
            m.name: {
                c: paired_interval(self.values(first.name, c), self.values(m.name, c)) for c in columns()
            }
            for m in others
        }

    def without_voice(self) -> list[str]:
        """Songs whose true vocals are silent: they have no scores of vocals, and count in no median."""
        name = self.methods[0].name
        return [song for song, s in self.scores.items() if s[name].values["vocals_usdr"] is None]

    def frame_counts(self) -> tuple[int, int]:
        """Frames that have BSSEval scores, of the first method, and frames in all."""
        listed = [
            by_method[self.methods[0].name].frames["vocals_sdr"] for by_method in self.scores.values()
        ]
        return sum(x is not None for frames in listed for x in frames), sum(map(len, listed))


def number(value: float | None, signed: bool = False) -> str:
    """A score as it is shown: two decimals, a dash if there is none, `> 99` where it tells of rounding."""
    if value is None:
        return DASH
    if value >= 99:
        return "> 99"
    return f"{value:{'+' if signed else ''}.2f}".replace("-", "\N{MINUS SIGN}")


def text_table(evaluation: Evaluation) -> str:
    """The medians over songs, a row a method, for a terminal."""
    known, medians = columns(), evaluation.medians()
    short = {"vocals": "voc.", "accompaniment": "acc."}
    heads = [f"{short[c.split('_')[0]]} {known[c].name}" if "_" in c else known[c].name for c in PRINTED]
    count = len(evaluation.scores)
    title = f"medians of {count} songs, dB" if count > 1 else "dB"
    width = max(len(title), *(len(m.name) for m in evaluation.methods))
    lines = [f"{title:{width}}" + "".join(f"{head:>11}" for head in heads)]
    for method, row in medians.items():
        cells = [number(None if (x := row[c]) is None else x.median) for c in PRINTED]
        lines.append(f"{method:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    lines += [
        f"no scores of vocals, which are silent: {one_line(song)}" for song in evaluation.without_voice()
    ]
    return "\n".join(lines)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def scores_csv(evaluation: Evaluation) -> str:
    """A line a song and method; empty cells where there is no score."""
    rows: list[Sequence[Any]] = [("song", "method", *columns())]
    for song, by_method in evaluation.scores.items():
        rows += [(one_line(song), method, *scores.values.values()) for method, scores in by_method.items()]
    return _csv(rows)


def frames_csv(evaluation: Evaluation) -> str:
    """A line a song, method and frame; empty cells where there is no score."""
    rows: list[Sequence[Any]] = [("song", "method", "start_seconds", *frame_columns())]
    for song, by_method in evaluation.scores.items():
        for method, scores in by_method.items():
            frames = zip(*scores.frames.values(), strict=True)
            rows += [
                (one_line(song), method, n * FRAME_SECONDS, *values) for n, values in enumerate(frames)
            ]
    return _csv(rows)


def plain(summary: Summary) -> dict[str, Any]:
    """A summary for JSON."""
    return {
        method: {
            c: None if x is None else x._asdict() | {"enough_songs": x.is_sure} for c, x in row.items()
        }
        for method, row in summary.items()
    }


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """All but the frames, for JSON; `null` where there is no score."""
    return {
        "facts": evaluation.facts,
        "sample_rate": evaluation.rate,
        "methods": {
            m.name: {"description": m.description, "checkpoint": m.is_checkpoint, **m.depends_on}
            for m in evaluation.methods
        },
        "songs": {
            song: {method: scores.values for method, scores in by_method.items()}
            for song, by_method in evaluation.scores.items()
        },
        "failed": list(evaluation.failed),
        "medians": plain(evaluation.medians()),
        "differences_from_the_first_checkpoint": plain(evaluation.differences()),
    }
