"""The HTML page of a report, from scores, images and sounds: one file that loads nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from vocalsep_jax.evaluation.bootstrap import ENOUGH, Interval
from vocalsep_jax.evaluation.full_scores import MEASURES, TARGETS, columns
from vocalsep_jax.evaluation.tables import DASH, Evaluation, Summary, number
from vocalsep_jax.runtime.console import one_line


@dataclass(frozen=True)
class Clip:
    """A part of a song to look at and to listen to.

    Attributes:
      song: its song.
      title: what it is, where it is, and its score.
      image: address of its spectrograms.
      sounds: addresses of its sounds, by what they are.
    """

    song: str
    title: str
    image: str
    sounds: Mapping[str, str]

    @property
    def size(self) -> int:
        """Characters that it takes on the page."""
        return len(self.image) + sum(map(len, self.sounds.values()))


@dataclass(frozen=True)
class Pictures:
    """Addresses of the drawings of a page.

    Attributes:
      songs: the bars of songs.
      frames: the distributions over frames, by target.
    """

    songs: str
    frames: Mapping[str, str]


def page(
    evaluation: Evaluation, pictures: Pictures, clips: Sequence[Clip], left_out: int, lost: int = 0
) -> str:
    """The whole page.

    Args:
      evaluation: what was found.
      pictures: its drawings.
      clips: in the order in which they are shown.
      left_out: number of clips that the page had no room for.
      lost: number of clips whose files are not there or damaged.
    """
    names = [m.name for m in evaluation.checkpoints]
    title = f"Scores of {', '.join(names)}"
    parts = [
        _lead(evaluation, title),
        _summary(evaluation),
        _differences(evaluation),
        _drawings(pictures),
        _clips(clips, left_out, lost),
        _songs(evaluation),
        _definitions(evaluation),
        _facts(evaluation),
    ]
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    """`text` as HTML; names of files may hold bytes that are no text, and line ends."""
    return html.escape(one_line(text))


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _lead(evaluation: Evaluation, title: str) -> str:
    songs, few = len(evaluation.scores), len(evaluation.scores) < ENOUGH
    usable, frames = evaluation.frame_counts()
    counted = "1 song" if songs == 1 else f"{songs} songs"
    lines = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="soft">{counted} at {evaluation.rate:,} Hz; {_text(evaluation.facts["date"])}</p>',
        f"<p>{usable} of {frames} frames of one second have BSSEval scores: both stems sound in them, and "
        "something is estimated for both. The others are left out.</p>",
    ]
    if few:
        says = "says" if songs == 1 else "say"
        lines.append(
            f'<p class="note">{counted} {says} little about others. In the place of 95 % intervals, '
            f"which take at least {ENOUGH} songs, the tables have the least and the greatest value.</p>"
        )
    if silent := evaluation.without_voice():
        lines.append(
            '<p class="note">The true vocals of these are silent; they have no scores of vocals and count '
            f"in no median of them: {_text(', '.join(silent))}.</p>"
        )
    if evaluation.failed:
        lines.append(f'<p class="note">Could not be scored: {_text(", ".join(evaluation.failed))}.</p>')
    return "\n".join(lines)


def _table(caption: str, heads: Iterable[str], rows: Iterable[tuple[str, bool, Sequence[str]]]) -> str:
    """A table whose cells are HTML; a row is its name, whether it is a checkpoint's, and its cells."""
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    body = "\n".join(
        ('<tr class="checkpoint">' if marked else "<tr>")
        + f'<th scope="row">{_text(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, marked, cells in rows
    )
    return (
        f'<div class="wide"><table><caption><span>{caption}</span></caption>\n<thead>'
        f'<tr><th scope="col"></th>{head}</tr>'
        f"</thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(interval: Interval | None, signed: bool = False) -> str:
    if interval is None:
        return DASH
    text = number(interval.median, signed)
    if interval.songs == 1:
        return f"{text}<small>1 song</small>"
    few = "" if interval.is_sure else f" of {interval.songs}"
    return f"{text}<small>{number(interval.low, signed)} … {number(interval.high, signed)}{few}</small>"


def _ends(summary: Summary, columns: Iterable[str]) -> str:
    """What stands under the medians of some columns, to go on with after "Median over songs"."""
    listed = [x for row in summary.values() for c in columns if (x := row[c]) is not None]
    least = "the least … the greatest value of n songs"
    few = any(not x.is_sure and x.songs > 1 for x in listed)
    if not any(x.is_sure for x in listed):
        return f", and {least}" if few else ""
    return ", and its 95 % interval" + (f"; where fewer than {ENOUGH} have a value, {least}" if few else "")


def _heads(target: str) -> dict[str, str]:
    """Columns of a target's table, with their heads; that of the vocals has the leakage, too."""
    return {
        key: f'<abbr title="{_text(m.title)}">{m.name}</abbr> {"↑" if m.higher_is_better else "↓"}'
        for key, m in columns().items()
        if key.startswith(target) or (key == "leakage" and target == "vocals")
    }


def _summary(evaluation: Evaluation) -> str:
    medians = evaluation.medians()
    tables = []
    for target in TARGETS:
        heads = _heads(target)
        rows = [
            (m.name, m.is_checkpoint, [_cell(medians[m.name][c]) for c in heads])
            for m in evaluation.methods
        ]
        caption = f"{target.capitalize()}, dB. Median over songs{_ends(medians, heads)}"
        tables.append(_table(caption, heads.values(), rows))
    arrows = f'<p class="soft">↑ more is better, ↓ less is better; {DASH} there is no such score.</p>'
    return "\n".join(["<h2>In short</h2>", *tables, arrows])


def _differences(evaluation: Evaluation) -> str:
    differences = evaluation.differences()
    if not differences:
        return ""
    first = evaluation.checkpoints[0].name
    tables = []
    for target in TARGETS:
        heads = _heads(target)
        rows = [(name, True, [_cell(row[c], True) for c in heads]) for name, row in differences.items()]
        caption = f"{target.capitalize()}, dB. Median over songs{_ends(differences, heads)}"
        tables.append(_table(caption, heads.values(), rows))
    listed = [x for row in differences.values() for x in row.values() if x is not None]
    notes = ["Of the differences within each song, the median over songs."]
    if any(x.is_sure for x in listed):
        notes.append(
            "Intervals are from songs drawn anew in pairs; one on one side of zero is a difference that "
            "other songs should show, too."
        )
    if any(not x.is_sure for x in listed):
        notes.append(
            f"With fewer than {ENOUGH} songs no difference is beyond chance; the ends are then the least "
            "and the greatest difference."
        )
    return "\n".join(
        [
            f"<h2>Differences from {_text(first)}</h2>",
            f"<p>{' '.join(notes)}</p>",
            *tables,
        ]
    )


def _image(address: str, text: str, caption: str = "") -> str:
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure class="drawing"><div class="wide"><img src="{address}" alt="{_text(text)}"></div>'
        f"{below}</figure>"
    )


def _drawings(pictures: Pictures) -> str:
    lines = ["<h2>Song by song</h2>", _image(pictures.songs, "The uSDR of the vocals of each song")]
    lines.append("<h2>Frame by frame</h2>")
    for target, address in pictures.frames.items():
        caption = (
            f"{target.capitalize()}: frames of one second of all songs. Boxes have the middle half and the "
            "median, whiskers the middle 90 %."
        )
        lines.append(_image(address, f"Distributions of the scores of the {target} over frames", caption))
    return "\n".join(lines)


def _clips(clips: Sequence[Clip], left_out: int, lost: int) -> str:
    if not clips and not left_out and not lost:
        return ""
    lines = [
        "<h2>To hear and to see</h2>",
        "<p>The ten seconds of a song where the vocals of the first checkpoint are best and worst, by the "
        "uSDR of that window, among those where the voice sounds at least half the time. Colours are "
        "levels of time and frequency (mel scale), on one scale in a picture. The error is the true vocals "
        "less the estimated ones.</p>",
    ]
    if left_out:
        lines.append(
            f'<p class="soft">Clips that are not on this page, which would grow too large: {left_out}. '
            "They are in the folder <code>results</code> beside it.</p>"
        )
    if lost:
        lines.append(
            f'<p class="note">Clips that are not in the folder <code>results</code>, or damaged: {lost}. '
            "The same command makes them anew.</p>"
        )
    song = None
    for clip in clips:
        if clip.song != song:
            lines.append(f"<h3>{_text(clip.song)}</h3>")
            song = clip.song
        players = "".join(
            f'<label>{_text(what)}<audio controls preload="none" src="{address}"></audio></label>'
            for what, address in clip.sounds.items()
        )
        lines.append(f"<p>{_text(clip.title)}</p>")
        lines.append(_image(clip.image, f"Spectrograms of {clip.song}, {clip.title}"))
        lines.append(f'<div class="players">{players}</div>')
    return "\n".join(lines)


def _songs(evaluation: Evaluation) -> str:
    lines = ["<h2>All scores of each song</h2>"]
    for song, by_method in evaluation.scores.items():
        tables = []
        for target in TARGETS:
            heads = _heads(target)
            rows = [
                (m.name, m.is_checkpoint, [number(by_method[m.name].values[c]) for c in heads])
                for m in evaluation.methods
            ]
            tables.append(_table(f"{target.capitalize()}, dB", heads.values(), rows))
        first = number(by_method[evaluation.methods[0].name].values["vocals_usdr"])
        lines.append(f"<details><summary>{_text(song)} <span class='soft'>vocals uSDR {first} dB</span>")
        lines += ["</summary>", *tables, "</details>"]
    return "\n".join(lines)


def _definitions(evaluation: Evaluation) -> str:
    measures = "".join(
        f"<dt>{m.name}, {_text(m.title)}</dt><dd>{_text(m.definition)}</dd>" for m in MEASURES.values()
    )
    methods = "".join(
        f"<dt>{_text(m.name)}</dt><dd>{_text(m.description)}</dd>" for m in evaluation.methods
    )
    return (
        f"<h2>What the measures are</h2>\n<dl>{measures}</dl>\n"
        "<p>SDR, SIR, SAR and ISR are those of BSSEval v4 (Stöter, Liutkus &amp; Ito 2018), as museval "
        "computes them: one least-squares filter of 512 taps a song, frames of one second, the median over "
        "those that have a value. Intervals are percentiles of the medians of 10,000 sets of songs drawn "
        "with replacement (Efron &amp; Tibshirani 1993). Numbers beyond 100 dB are cut off.</p>\n"
        f"<h2>What was compared</h2>\n<dl>{methods}</dl>"
    )


def _facts(evaluation: Evaluation) -> str:
    listed = "".join(
        f"<dt>{_text(name)}</dt><dd><code>{_text(value)}</code></dd>"
        for name, value in evaluation.facts.items()
    )
    return f"<h2>How this was made</h2>\n<dl>{listed}</dl>"
