"""What the command promises, compared with what a call left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.fuzz_separate.calling import Called
from tools.fuzz_separate.cases import Case, is_folder
from tools.fuzz_separate.expected import Expected, must_succeed
from tools.fuzz_separate.output_checks import check_outputs
from tools.fuzz_separate.reader import by_libsndfile
from tools.fuzzing import is_one_line


@dataclass
class _Left:
    """What a call left.

    Attributes:
      called: its exit code and messages.
      before: files that were in the output folder before it.
      written: files that it wrote there.
      taken: outputs of the tracks that were looked at.
    """

    called: Called
    before: Mapping[Path, int]
    written: set[Path]
    taken: set[Path] = field(default_factory=set)


@dataclass
class _Result:
    """What became of a track: as the report has it, and what its outputs were to be."""

    path: Path
    status: str
    outputs: dict[str, Path]
    expected: Expected | None = None

    @property
    def printed(self) -> str:
        """What is to be printed if it is done."""
        return "".join(f"{output}\n" for output in self.outputs.values())


def check(case: Case, called: Called, before: Mapping[Path, int]) -> None:
    """Add what is wrong with a call to the case's problems.

    Args:
      case: of the call.
      called: what came of it.
      before: files that were in the output folder, and when each was written.
    """
    wrong = case.problems.append
    if called.code not in (0, 1, 2):
        wrong(f"exit code {called.code}")
    errors = [e for e in called.errors if not e.endswith("songs failed")]
    for error in errors:
        if not is_one_line(error) or not error.startswith("error: "):
            wrong(f"not one line: {error!r}")
    there = [p for p in case.out.rglob("*") if p.is_file()] if case.out.is_dir() else []
    written = {p for p in there if before.get(p) != p.stat().st_mtime_ns}
    _check_files(case, called, there)
    if case.usage_error != (called.code == 2):
        wrong(f"exit code {called.code}, {'wrong' if case.usage_error else 'right'} usage, {errors}")
    if called.code == 2:
        if written or called.stdout or len(errors) != 1:
            wrong(f"exit code 2 with outputs or {len(errors)} errors: {errors}")
        return
    if bool(errors) != (called.code == 1):
        wrong(f"exit code {called.code} with {len(errors)} errors")
    left = _Left(called, before, written)
    usable = {track: song.usable for song in case.songs for track in song.tracks()}  # each once
    results = [_check_track(case, left, *track, may_be_done) for track, may_be_done in usable.items()]
    printed = "".join(result.printed for result in results if result.status == "done")
    if (case.jobs == 1 and printed != called.stdout) or len(printed) != len(called.stdout):
        wrong(f"printed {called.stdout!r}, which is not {printed!r}")
    if case.report is not None:
        _check_report(case, case.report, errors, results)


def _check_files(case: Case, called: Called, there: list[Path]) -> None:
    """Check that there is nothing besides outputs, and that all of these are whole."""
    wrong = case.problems.append
    outside = set(case.folder.iterdir()) - {case.out, case.inputs}
    if case.report is not None and called.code != 2:
        outside -= {case.folder / case.report.relative_to(case.folder).parts[0]}
    if outside:
        wrong(f"written outside of OUT: {outside}")
    if any(p.suffix == ".partial" for p in case.folder.rglob("*")):
        wrong("a .partial is left")
    for path in there:
        if by_libsndfile(path) is None:
            wrong(f"unreadable output {path.name!r}")


def _check_track(case: Case, left: _Left, path: Path, track: str, usable: bool | None) -> _Result:
    """Check what became of a track; its outputs are taken then."""
    wrong, errors = case.problems.append, left.called.errors
    outputs = {stem: case.output(track, stem) for stem in case.stems}
    result = _Result(path, "failed", outputs)
    said = any(_names(e, p) for e in errors for p in (case.shown(path), *outputs.values()))
    if any(".." in output.parts[len(case.out.parts) :] for output in outputs.values()):  # of `...wav`
        if not said:
            wrong(f"{path.name!r} is to be written outside of OUT, and nothing was said")
        return result
    if left.taken & set(outputs.values()):
        if not said:
            wrong(f"{path.name!r} was to overwrite another's output, and nothing was said")
        return result
    if not is_folder(path):
        left.taken |= set(outputs.values())
    must = must_succeed(case, usable, path, outputs)
    if result.printed in left.called.stdout:
        result.status = "done"
        if must is False:
            wrong(f"{path.name!r} was to fail and has outputs")
        if missing := [stem for stem, output in outputs.items() if output not in left.written]:
            wrong(f"{missing} of {path.name!r} are said to be written and are not")
        else:
            result.expected = check_outputs(case, usable, path, outputs)
        return result
    if any(output in left.written for output in outputs.values()):
        wrong(f"outputs of {path.name!r} written, and not said so; {errors}")
    if case.skip_existing and all(output in left.before for output in outputs.values()):
        result.status = "skipped"
        return result
    if not said:
        wrong(f"{path.name!r}: neither written nor named in an error: {errors}")
    if must:
        wrong(f"{path.name!r} is good and failed: {errors}")
    return result


def _check_report(case: Case, path: Path, errors: list[str], results: list[_Result]) -> None:
    """Check that the report says what happened."""
    wrong = case.problems.append
    if not path.is_file():
        if case.file_limit is None and not path.is_dir():
            wrong("there is no report")
        if not any(_names(e, path) for e in errors):
            wrong(f"there is no report, and nothing was said: {errors}")
        return
    report = json.loads(path.read_text(), parse_constant=lambda name: wrong(f"the report holds {name}"))
    entries = report["songs"]
    if [entry["song"] for entry in entries] != [str(case.shown(result.path)) for result in results]:
        wrong(f"the report has other songs: {entries}")
        return
    for entry, result in zip(entries, results, strict=True):
        name = result.path.name
        if entry["status"] != result.status:
            wrong(f"{name!r} is {result.status}, in the report {entry}")
        elif result.status == "failed":
            if f"error: {entry['error']}" not in errors:
                wrong(f"{name!r}: {entry['error']!r} in the report, and not in {errors}")
        elif entry["outputs"] != {stem: str(output) for stem, output in result.outputs.items()}:
            wrong(f"{name!r}: other outputs in the report: {entry}")
        elif result.status == "done" and result.expected:
            _check_entry(case, name, entry, result.expected)


def _check_entry(case: Case, name: str, entry: dict[str, Any], expected: Expected) -> None:
    """Check that the report is right about a song that was separated."""
    wrong = case.problems.append
    shape = entry["samples"], entry["channels"]
    if shape != expected.stems["vocals"].shape or entry["sample_rate"] != expected.rate:
        wrong(f"{name!r} has another form in the report: {entry}")
    if abs(entry["scale"] / expected.scale - 1) > 0.1 * (case.settings["dtype"] == "bfloat16") + 1e-4:
        wrong(f"{name!r} is scaled by {entry['scale']}, not {expected.scale}")
    beyond, margin = expected.beyond(case), expected.margin(case)
    holds_all = case.sample == "float32" or case.clip_mode != "clamp"
    if entry["clipped_samples"] and (holds_all or beyond < -margin):
        wrong(f"{name!r}: {entry['clipped_samples']} samples are said to be clipped")
    if not entry["clipped_samples"] and not holds_all and beyond > margin:
        wrong(f"{name!r}: clipped samples are not counted")


def _names(error: str, path: Path) -> bool:
    """Whether a message names a path: it may have escapes for odd characters."""
    return _letters(str(path)) in _letters(error)


def _letters(text: str) -> str:
    """The letters and digits of a text, and of the escapes for other characters."""
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    return "".join(c for c in escaped if c.isalnum())
