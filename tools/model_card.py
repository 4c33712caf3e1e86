"""Write the card of an exported model: MODEL_CARD.md, and the same facts in card.json, beside its weights.

    python tools/model_card.py MODEL --run RUN [--scores SCORES.json] [--leave-one-out LEFT.json]
        [--awkward AWKWARD.json] [--command "scripts/reproduce_model.sh ..."]

MODEL is what `vocalsep export RUN MODEL` wrote; RUN, and the runs it was started from, tell of songs,
recipe, seeds and hours; SCORES.json comes from `python -m vocalsep_jax.evaluate --report`, LEFT.json from
`tools/leave_one_out.py`, AWKWARD.json from `tools/awkward_inputs.py`; licences of songs from
`tools/song_licences.json`. No number is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax.config import Config, differences
from vocalsep_jax.runs.exported import read_facts
from vocalsep_jax.runs.folder import RunError, find_run, read_json
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import RunRecord, read_record
from vocalsep_jax.runs.shipped import CARD, CARD_FACTS
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging

log = logging.getLogger(__name__)

LICENCES = Path(__file__).with_name("song_licences.json")

_SPEED = re.compile(r" \(speed [\d.]+\)$")

_BUILT_IN = "Built-in - "
"""What the names of generated songs begin with."""

MODEL = "model"
"""What the checkpoint is called among the methods that were compared."""

SHOWN = {
    "vocals_usdr": "vocals uSDR",
    "vocals_sdr": "vocals SDR",
    "vocals_sir": "vocals SIR",
    "vocals_sar": "vocals SAR",
    "accompaniment_usdr": "accompaniment uSDR",
    "leakage": "leakage",
}
"""The columns of an evaluation that the card shows, with their titles; card.json has all."""

Scores = dict[str, Any]
"""An evaluation, as `read_scores` gives it."""


def stages(run: Path) -> Iterator[dict[str, Any]]:
    """What was trained, last stage first: a run, the run it was started from, and so on.

    Raises:
      RunError: if one of them is not there, or damaged.
    """
    while True:
        run = find_run(run)
        record, history = read_record(run), read_history(run)
        yield {
            "config": record.config.name,
            "seed": record.config.seed,
            "steps": max((line["step"] for line in history), default=0),
            "hours": _hours(record, history),
            "changes": differences(Config(), record.config),
            "songs": {
                # A song that is there at several speeds has one licence.
                split: [_SPEED.sub("", name) for name, _ in record.songs.get(split, [])]
                for split in ("train", "valid")
            },
        }
        if not record.config.init_from:
            return
        run = Path(record.config.init_from)


def _hours(record: RunRecord, history: Sequence[dict[str, Any]]) -> float:
    """Hours spent in training steps, by the speeds in the history."""
    seconds, before = 0.0, 0
    for line in history:
        if line["kind"] == "train" and line["patches_per_second"] > 0:
            patches = (line["step"] - before) * record.config.batch_size
            seconds, before = seconds + patches / line["patches_per_second"], line["step"]
    return seconds / 3600


def licensed(names: Iterable[str], licences: Mapping[str, Any]) -> list[dict[str, str]]:
    """Songs with their licences; `generated` for the built-in ones.

    Raises:
      RunError: if a song is not in the list of licences.
    """
    found = []
    for name in names:
        if name.startswith(_BUILT_IN):
            found.append({"song": name, "licence": "generated", "from": "this software"})
        elif name in licences["songs"]:
            found.append({"song": name, **licences["songs"][name]})
        else:
            raise RunError(f"{name}: its licence is not in {LICENCES.name}")
    return found


def read_scores(path: Path) -> Scores:
    """What an evaluation of one checkpoint found; the checkpoint is called `model`.

    Returns:
      `sample_rate` in Hz; `songs`: dB by song, method and column; `medians`: over songs, with intervals, by
      method and column.

    Raises:
      RunError: if the file is missing, damaged, or not of one checkpoint.
    """
    content = read_json(path)
    try:
        named = as_model(content)
        return {part: named[part] for part in ("sample_rate", "songs", "medians")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: not the scores of one checkpoint ({error!r})") from error


def as_model(content: dict[str, Any]) -> dict[str, Any]:
    """What `vocalsep evaluate --report` writes as `scores.json`, with its one checkpoint called `MODEL`."""
    (name,) = (method for method, x in content["methods"].items() if x["checkpoint"])

    def renamed(by_method: dict[str, Any]) -> dict[str, Any]:
        return {MODEL if method == name else method: x for method, x in by_method.items()}

    songs = {song: renamed(by_method) for song, by_method in content["songs"].items()}
    renames = {part: renamed(content[part]) for part in ("methods", "medians") if part in content}
    return content | renames | {"songs": songs}


def facts_of_card(
    model: Path,
    run: Path,
    *,
    scores: Scores | None,
    leave_one_out: Scores | None,
    awkward: dict[str, Any],
    command: str,
    licences: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of `card.json`.

    Raises:
      RunError: if the model is not one of the run, or a song has no licence.
    """
    facts, trained = read_facts(model), [*stages(run)]
    if trained[0]["config"] != facts["training"]["config"] or trained[0]["steps"] < facts["step"]:
        raise RunError(
            f"{model}: was not made of {run}, but of step {facts['step']} of a run of "
            f"{facts['training']['config']}"
        )
    seen = {
        split: dict.fromkeys(name for stage in trained for name in stage["songs"][split])
        for split in ("train", "valid")
    }
    return {
        "model": model.resolve().name,
        "facts": facts,
        "songs": {split: licensed(names, licences) for split, names in seen.items()},
        "stages": [
            {name: value for name, value in stage.items() if name != "songs"} for stage in reversed(trained)
        ],
        "command": command,
        "scores": scores,
        "leave_one_out": leave_one_out,
        "awkward": awkward,
    }


def card(content: dict[str, Any], licences: Mapping[str, Any]) -> str:
    """The card, as Markdown."""
    facts = content["facts"]
    sections = [
        f"# {content['model']}\n\nSplits the singing voice from the instruments; a model of vocalsep_jax "
        f"{facts['versions']['vocalsep_jax']}. Written by `tools/model_card.py`.",
        _list(
            {
                "parameters": f"{facts['parameters']:,}, stored as {facts['weights']['dtype']}",
                "sample rate": f"{facts['sample_rate']} Hz; songs of other rates are resampled",
                "channels": "left and right together"
                if facts["channels"] == 2
                else "each channel by itself",
                "STFT": f"{facts['stft']['n_fft']} samples, hop {facts['stft']['hop']}",
                "training step": f"{facts['step']:,}",
                "licence of the weights": facts["licence"],
                f"SHA-256 of `{facts['weights']['file']}`": f"`{facts['weights']['sha256']}`",
            }
        ),
        "## Trained on\n\n" + _songs(content["songs"], licences),
        "## Recipe\n\n" + "\n\n".join(map(_stage, content["stages"])),
    ]
    if content["command"]:
        sections.append(f"The whole again:\n\n```sh\n{content['command']}\n```")
    if facts["weights"]["dtype"] != "float32":
        sections.append(
            f"Storing the weights as {facts['weights']['dtype']} changes the stems of noise by "
            f"{facts['weights']['largest_difference']:.1g} of its largest sample at most."
        )
    if content["scores"]:
        sections.append("## Scores\n\n" + _scores(content["scores"], _trained(content)))
    if content["leave_one_out"]:
        text = "Each song by a model of the same recipe that has not heard it:"
        sections.append(f"## Leave one out\n\n{text}\n\n" + _scores(content["leave_one_out"], ()))
    if content["awkward"]:
        sections.append("## Awkward inputs\n\n" + _awkward(content["awkward"]))
    sections.append("## Limits\n\n" + "\n".join(f"* {limit}" for limit in _limits(content)))
    return "\n\n".join(sections) + "\n"


def _trained(content: dict[str, Any]) -> list[str]:
    return [song["song"] for song in content["songs"]["train"]]


def _list(entries: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in entries.items())])


def _songs(songs: dict[str, list[dict[str, str]]], licences: Mapping[str, Any]) -> str:
    lines = []
    for split, purpose in (("train", "trained on"), ("valid", "validated on")):
        generated = sum(song["licence"] == "generated" for song in songs[split])
        if generated:
            lines.append(f"| {generated} built-in songs | generated by this software | {purpose} |")
        for song in songs[split]:
            if song["licence"] != "generated":
                link = f"[{song['licence']}]({licences['licences'][song['licence']]})"
                lines.append(f"| {song['song']} ({song['from']}) | {link} | {purpose} |")
    return "\n".join(["| song | licence | |", "|---|---|---|", *lines])


def _stage(stage: dict[str, Any]) -> str:
    changes = "\n".join(f"* `{change}`" for change in stage["changes"])
    return (
        f"`{stage['config']}`, seed {stage['seed']}: {stage['steps']:,} steps, {stage['hours']:.2g} hours "
        f"of training steps. Changes to the reference recipe (`configs/base.py`):\n\n{changes}"
    )


def _scores(scores: Scores, trained: Sequence[str]) -> str:
    """A row a method of medians with intervals, and a row a song of uSDR."""
    shown = {c: title for c, title in SHOWN.items() if c in scores["medians"][MODEL]}
    lines = ["| median, dB | " + " | ".join(shown.values()) + " |", "|---|" + "---|" * len(shown)]
    for method, values in scores["medians"].items():
        lines.append(f"| {method} | " + " | ".join(_interval(values[c]) for c in shown) + " |")
    methods = list(scores["medians"])
    lines += ["", "| vocals uSDR, dB | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for song, by_method in scores["songs"].items():
        mark = " (trained on)" if song in trained else ""
        cells = [_decibels(by_method[method]["vocals_usdr"]) for method in methods]
        lines.append(f"| {song}{mark} | " + " | ".join(cells) + " |")
    notes = "docs/evaluation.md says what each number is."
    if "sample_rate" in scores:
        notes = f"Taken at {scores['sample_rate']} Hz. {notes}"
    if not all(interval["enough_songs"] for interval in scores["medians"][MODEL].values() if interval):
        notes += " There are too few songs for 95 % intervals: the least and the greatest are given."
    return "\n".join([*lines, "", notes])


def _interval(x: dict[str, Any] | None) -> str:
    if x is None:
        return ""
    return f"{x['median']:.2f}" + (f" ({x['low']:.2f} to {x['high']:.2f})" if x["songs"] > 1 else "")


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _awkward(awkward: dict[str, Any]) -> str:
    lines = ["| input | what is measured | dB |", "|---|---|---|"]
    lines += [f"| {name} | {x['what']} | {x['decibels']:.1f} |" for name, x in awkward.items()]
    return "\n".join(lines)


def _limits(content: dict[str, Any]) -> Iterator[str]:
    """What the model cannot do, in plain words."""
    real = [song for song in content["songs"]["train"] if song["licence"] != "generated"]
    artists = sorted({song["song"].split(" - ")[0] for song in real})
    yield (
        f"Real songs that it has heard: {len(real)}, by {', '.join(artists) or 'nobody'}. "
        "Voices and styles unlike theirs may be separated far worse than the scores here say."
    )
    songs = _unheard(content)
    scores = {song: x for song in songs if (x := songs[song][MODEL]["vocals_usdr"]) is not None}
    if scores:
        median = statistics.median(scores.values())
        which = "Models of its recipe reached" if content["leave_one_out"] else "It reached"
        yield f"{which} {median:.2f} dB on songs that they had not heard (median of {len(scores)})."
    else:
        yield "It was scored on no song that it had not heard."
    worse = [song for song, x in scores.items() if x <= max(0.0, songs[song]["mixture"]["vocals_usdr"])]
    if worse:
        yield f"It was no better than silence or the mixture itself on: {', '.join(worse)}."
    leakage = [x for song in songs.values() if (x := song[MODEL]["leakage"]) is not None]
    if leakage:
        yield (
            f"Of music without a voice it takes {statistics.median(leakage):.1f} dB for voice, relative to "
            "the music: instruments are heard in `vocals`, most of all those that sound like one."
        )
    yield (
        f"What the voice has above {content['facts']['sample_rate'] // 2} Hz, half of the model's rate, "
        "stays in the accompaniment."
    )
    yield "Where voice and instruments share a frequency at the same moment, both stems sound rough."
    yield "Speech, choirs and rap count as voice only as far as they are like the songs it was trained on."


def _unheard(content: dict[str, Any]) -> dict[str, Any]:
    """The scores of songs that were neither trained nor validated on: leave-one-out's, where there are."""
    if content["leave_one_out"]:
        return dict(content["leave_one_out"]["songs"])
    heard = {song["song"] for songs in content["songs"].values() for song in songs}
    scores = content["scores"] or {"songs": {}}
    return {song: x for song, x in scores["songs"].items() if song not in heard}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 2 wrong usage or something missing."""
    parser = argparse.ArgumentParser(
        prog="python tools/model_card.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN")
    parser.add_argument("--scores", type=Path, metavar="FILE")
    parser.add_argument("--leave-one-out", type=Path, metavar="FILE")
    parser.add_argument("--awkward", type=Path, metavar="FILE")
    parser.add_argument("--command", default="", help="what makes the model again")
    options = parser.parse_args(argv)
    start_logging()
    try:
        licences = read_json(LICENCES)
        content = facts_of_card(
            options.model,
            options.run,
            scores=read_scores(options.scores) if options.scores else None,
            leave_one_out=read_scores(options.leave_one_out) if options.leave_one_out else None,
            awkward=read_json(options.awkward) if options.awkward else {},
            command=options.command,
            licences=licences,
        )
        disk.write_text(options.model / CARD_FACTS, json.dumps(content, indent=2) + "\n")
        disk.write_text(options.model / CARD, card(content, licences))
    except (RunError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    print(options.model / CARD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
