"""The options of a case, right and wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.fuzz_separate.cases import Case
from tools.fuzz_separate.formats import BIT_RATES
from tools.fuzz_separate.reader import sound_of
from vocalsep_jax.separation.stem_files import CLIP_MODES

BATCH_SIZES = (1, 3, 8)
"""Few: each is a program to compile."""

FILENAMES = (
    "{track} - {stem}.{ext}",
    "{stem}/{track}.{ext}",
    "{stem}.{ext}",
    "{track}{stem}",
    "./a//b/{track}/{stem}..{ext}",
    "{track:>100}{stem}.{ext}",
    "{stem}\n{track}.{ext}",
)

_BAD_FILENAMES = (
    "{song}{stem}",
    "{track.x}{stem}",
    "{track[a]}{stem}",
    "{track[99]}{stem}",
    "{stem",
    "{0}{stem}",
    "{stem!z}",
    "{stem:d}",
    "{track}",
    "",
    "../{stem}.{ext}",
    "a/{track}/../../../../{stem}",
    "/{stem}.{ext}",
)
_BAD_TIMES = ("-1", "x", "", ":", "1:2:3:4", "1:-5", "nan", "inf", "1:nan", "1e308:0", "9" * 400)
_NO_CHECKPOINTS = (
    "missing",
    "x" * 300,
    "a file",
    "an empty folder",
    "~nobody-of-this-name/run",
    "damaged",
    "",
)

WRONG_OPTIONS: tuple[tuple[str, ...], ...] = (
    *(("--overlap", x) for x in ("1", "-0.1", "nan", "x")),
    *(("--batch-size", x) for x in ("0", "-3", "1.5")),
    *(("--shifts", x) for x in ("0", "-1", "x")),
    *(("--stems", x) for x in ("", "drums", "vocals,")),
    *(("--filename", x) for x in _BAD_FILENAMES),
    ("-d", "abacus"),
    ("--wav", "--mp3"),
    ("--clip-mode", "limit"),
    ("--dtype", "float16"),
    ("--jobs", "0"),
    ("-j", "x"),
    ("--two-stems", "no_vocals"),
    ("--two-stems", "vocals", "--stems", "vocals"),
    *(("--bitrate", x) for x in ("x", "0", "-1", "1000")),
    *(("--duration", x) for x in ("0", "0:0")),
    *((f"{name}={x}",) for name in ("--start", "--duration") for x in _BAD_TIMES),
    *(("--checkpoint", x) for x in _NO_CHECKPOINTS),
    ("--json", ""),
    ("--json", "the song"),
)
"""Options that are none, or do not go with the others."""


def add_options(case: Case) -> None:
    """Random options."""
    _add_encoding(case)
    _add_outputs(case)
    _add_settings(case)
    _add_part(case)
    if case.chance(0.25):
        case.jobs = int(case.rng.integers(1, 4))
        case.options += [case.pick(("-j", "--jobs")), str(case.jobs)]
        case.kinds.append(f"-j {case.jobs}")
    if case.chance(0.4):
        names = ("report.json",) * 8 + ("new/deep/report.json", "in")
        case.report = case.folder / case.pick(names)
        case.options += ["--json", str(case.report)]
        case.kinds.append("--json")
    case.skip_existing = case.chance(0.2)
    case.options += ["--skip-existing"] * case.skip_existing
    case.relative = case.chance(0.2)
    case.kinds += ["relative names"] * case.relative
    if case.chance(0.07):
        _add_wrong_option(case)


def _add_encoding(case: Case) -> None:
    """How the outputs are encoded."""
    if case.chance(0.6):
        case.container = case.pick(("wav", "flac", "ogg", "mp3"))
        case.options.append(f"--{case.container}")
    lossless = case.container in ("wav", "flac")
    if case.chance(0.7):
        samples = ("int16", "int24", "float32") if case.container == "wav" else ("int16", "int24")
        case.sample = case.pick(samples) if lossless else None
        if case.chance(0.02):
            case.sample = "float32"
            case.usage_error |= case.container != "wav"
        if case.sample:
            case.options.append(f"--{case.sample}")
    if lossless and not case.sample:
        case.sample = "int16"
    if case.chance(0.02 if lossless else 0.5):
        case.bitrate = case.pick((7, 8, 31, 32, 64, 65, 100, 128, 160, 161, 320, 321, 500, 501))
        case.options += ["--bitrate", str(case.bitrate)]
        low, high = BIT_RATES.get(case.container, (1, 0))
        wrong = not low <= case.bitrate <= high
        case.usage_error |= wrong
        case.kinds.append("usage: --bitrate" if wrong else f"--bitrate {case.container}")


def _add_outputs(case: Case) -> None:
    """Which outputs there are, and where, and what becomes of samples beyond full scale."""
    if case.chance(0.2):
        case.stems = case.pick((("vocals",), ("no_vocals",), ("no_vocals", "vocals")))
        case.options += ["--stems", ",".join(case.stems)]
    elif case.chance(0.1):
        case.options += ["--two-stems", "vocals"]
    if case.chance(0.25):
        # A folder that fails has no track: with one name for all outputs it would seem to have them.
        fails = any(song.kind == "folder of no audio" for song in case.songs)
        case.filename = case.pick([x for x in FILENAMES if "{track" in x] if fails else FILENAMES)
        case.options += ["--filename", case.filename]
    if case.chance(0.3):
        case.clip_mode = case.pick(CLIP_MODES)
        case.options += ["--clip-mode", case.clip_mode]
        case.kinds.append(f"--clip-mode {case.clip_mode}")


def _add_settings(case: Case) -> None:
    """How the songs are separated."""
    case.settings = {
        "overlap": 0.25,
        "shifts": 1,
        "batch_size": 8,
        "device": None,
        "dtype": None,
    }
    chosen: dict[str, Any] = {}
    if case.chance(0.6):
        chosen["overlap"] = case.pick((0, 0.1, 0.25, 0.5, 0.75, 0.9))
    if case.chance(0.6):
        chosen["batch_size"] = case.pick(BATCH_SIZES)
    if case.chance(0.2):
        chosen["shifts"] = int(case.rng.integers(1, 4))
        case.kinds.append(f"--shifts {chosen['shifts']}")
    if case.chance(0.1):
        chosen["dtype"] = case.pick(("float32", "bfloat16"))
        case.kinds.append(f"--dtype {chosen['dtype']}")
    for name, value in chosen.items():
        case.options += [f"--{name.replace('_', '-')}", str(value)]
    case.settings |= chosen


def _add_part(case: Case) -> None:
    """Which part of the songs is separated."""
    song = sound_of(case.songs[0].path)
    seconds, step = (len(song.samples) / song.rate, 1 / song.rate) if song else (1.0, 1.0)
    if case.chance(0.15):
        starts = (
            0.0,
            step / 2,
            seconds / 10,
            seconds / 2,
            seconds / 2,
            seconds - step,
            seconds,
            99.0,
            1e308,
        )
        text, case.start = _time(case, max(0.0, case.pick(starts)))
        case.options.append(f"--start={text}")
        case.kinds.append("--start")
    if case.chance(0.15):
        durations = (1e-9, step, seconds / 3, seconds / 2, seconds, 99.0, 1e308)
        text, case.duration = _time(case, case.pick(durations) or 1.0)
        case.options.append(f"--duration={text}")
        case.kinds.append("--duration")


def _time(case: Case, seconds: float) -> tuple[str, float]:
    """A time as text of some form, and the seconds that the text says."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    forms = [(repr(seconds), seconds)]
    if seconds < 1e6:
        forms.append((f"{60 * hours + minutes:g}:{rest!r}", 60 * (60 * hours + minutes) + rest))
        forms.append((f"{hours:.0f}:{minutes:02.0f}:{rest!r}", 60 * (60 * hours + minutes) + rest))
    return case.pick(forms)


def _add_wrong_option(case: Case) -> None:
    wrong = list(case.pick(WRONG_OPTIONS))
    case.kinds.append("usage: " + " ".join(wrong)[:60])
    case.usage_error = True
    if wrong == ["--json", "the song"]:
        song = case.songs[0].path
        wrong[1] = str(case.shown(song)) if song.is_file() else ""
    elif wrong == ["--filename", "{track}"]:  # is right with one stem
        wrong += ["--stems", "vocals,no_vocals"]
    elif wrong[0] == "--checkpoint" and wrong[1] and wrong[1][0] != "~":
        wrong[1] = str(_make_no_checkpoint(case, wrong[1]))
    case.options += wrong


def _make_no_checkpoint(case: Case, what: str) -> Path:
    """What is no run."""
    path = case.inputs / "not a run" / what
    if what in ("an empty folder", "damaged"):
        path.mkdir(parents=True)
    if what == "damaged":
        contents = ("", "{", "[]", '{"config": {}}', '{"config": {"audio": 3}}')
        (path / "config.json").write_text(case.pick(contents))
    if what == "a file":
        path.parent.mkdir()
        path.write_text("not a run")
    return path
