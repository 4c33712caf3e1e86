"""Songs as stems: what a song and a library of songs are, and the songs in a folder on disk.

A song may lie on disk in four layouts. Above the songs there may be folders `train/`, `valid/` and
`test/`.

* MUSDB18-HQ: `<Artist - Title>/{mixture,vocals,drums,bass,other}.wav`
* any stems: `<name>/vocals.*` with `<name>/accompaniment.*` or `<name>/mixture.*`, with any suffix of
  `audio.files.SUFFIXES`
* MUSDB18: `<Artist - Title>.stem.mp4`, which needs the `av` extra
* music without a voice: `<name>/accompaniment.*` alone; it is trained on, and never validated on

Training mixes vocals and accompaniment itself, even if a mixture is given. When the song is scored, the
given mixture is what is separated.

Axis letters: `S` samples, `C` channels. Sample values are floats with full scale at 1.0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocalsep_jax.audio.files import STEM_FILE_SUFFIX, SUFFIXES, AudioError, Reader, read
from vocalsep_jax.audio.resampling import resample

log = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")

MUSDB_VALIDATION = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
"""The validation songs that are published with MUSDB18. All are in its training part."""

ACCOMPANIMENT_STEMS = ("drums", "bass", "other")
"""The stems whose sum is the accompaniment where none is given."""

STEM_FILE_ORDER = ("mixture", *ACCOMPANIMENT_STEMS, "vocals")
"""Audio streams of a MUSDB18 `.stem.mp4`."""

_LENGTH_TOLERANCE_SECONDS = 1.0
_SILENCE = 1e-4  # peak, -80 dBFS
_MIXTURE_DIFFERS = 0.03  # of the mixture's RMS: -30 dB, more than what lossy coding changes


class SongError(Exception):
    """A song or a folder of songs cannot be used. The message names it and says what to do."""


@dataclass(frozen=True)
class Stems:
    """A song in memory.

    Attributes:
      vocals, accompaniment: float32 `[S, 2]`, equally long.
      given_mixture: float32 `[S, 2]`, the mixture that came with the stems, or None if there was none. It
        may differ from the sum of the stems, by mastering or lossy coding.
    """

    vocals: np.ndarray
    accompaniment: np.ndarray
    given_mixture: np.ndarray | None = None

    @property
    def mixture(self) -> np.ndarray:
        """The mixture to separate, float32 `[S, 2]`: the given one if there is one, else the stems' sum."""
        if self.given_mixture is not None:
            return self.given_mixture
        return self.vocals + self.accompaniment


@dataclass(frozen=True)
class Song:
    """A song that can be loaded.

    Attributes:
      name: unique within a library, usually "Artist - Title".
      load: maps a sample rate in Hz to the stems, which it reads or generates; may raise SongError.
      fingerprint: another one whenever `load` may give other stems.
      voiceless: whether there is no voice in it: its vocals are zeros.
    """

    name: str
    load: Callable[[int], Stems]
    fingerprint: str
    voiceless: bool = False


@dataclass(frozen=True)
class Library:
    """Songs in splits. No song is in two of them.

    Attributes:
      source: where the songs come from, for messages and as a key of the song cache.
      splits: the songs of each of `SPLITS`; a split may be empty.
      validation_choice: how the validation songs were chosen, for the log.
    """

    source: str
    splits: dict[str, tuple[Song, ...]] = field(default_factory=dict)
    validation_choice: str = ""

    def fingerprint(self, splits: Sequence[str] = SPLITS) -> str:
        """A digest of the songs in `splits` and of the split that each is in."""
        content = [[s, [[x.name, x.fingerprint] for x in self.splits.get(s, ())]] for s in splits]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def find_library(
    root: str | Path,
    *,
    valid_songs: int = 0,
    valid_names: Sequence[str] = (),
    instrumentals: str | Path = "",
    seed: int = 0,
) -> Library:
    """Find the songs in a folder and choose those to validate on.

    The validation songs are the first of these that there are:

    * the songs named in `valid_names`
    * the songs of MUSDB18's published list, with those under `valid/`
    * the songs under `valid/`
    * some of the training songs, chosen at random

    All other songs under `train/` and `valid/` are trained on. Songs in a folder without `train/`, `valid/`
    and `test/` are training songs.

    Args:
      root: the folder.
      valid_songs: how many songs are chosen at random; a tenth of the training songs, at least one, if 0.
      valid_names: names of the songs to validate on; may be empty.
      instrumentals: a folder of music without a voice, to train on too: every audio file in it, and every
        `<name>/accompaniment.*`; none if empty.
      seed: of the random choice.

    Raises:
      SongError: if there is no such folder, it cannot be looked at, there are no songs in it, two songs of
        one split have the same name, no song with a voice has a name in `valid_names`, or the instrumentals
        are not there, or have names of songs.
    """
    with _one_line_errors(root):
        root = Path(root).expanduser()
        if not root.is_dir():
            raise SongError(f"{root}: no such folder; give the folder that holds the songs")
        has_splits = any((root / s).is_dir() for s in SPLITS)
        found = {
            s: _find_songs(root / s if has_splits else root) for s in SPLITS[: None if has_splits else 1]
        }
    train, valid = list(found["train"]), list(found.get("valid", ()))
    if not train and not valid and not found.get("test"):
        raise SongError(
            f"{root}: no songs found; each song is a folder with vocals.* and accompaniment.*, "
            f"mixture.* or drums/bass/other.*, or a {STEM_FILE_SUFFIX} file, "
            "under train/ (and valid/, test/) or directly in this folder"
        )
    for split in SPLITS:
        names = [s.name for s in found.get(split, ())]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise SongError(f"{root}: two songs are called {twice[0]!r}; rename one")

    everything = {s.name: s for s in (*train, *valid)}
    valid = [s for s in valid if not s.voiceless]
    if valid_names:
        if missing := [n for n in valid_names if n not in everything]:
            raise SongError(f"{root}: no song called {missing[0]!r} to validate on")
        if silent := [n for n in valid_names if everything[n].voiceless]:
            raise SongError(f"{root}: {silent[0]!r} has no voice to validate on")
        valid, choice = [everything[n] for n in valid_names], "named in the config"
    elif musdb := [s for s in train if s.name in MUSDB_VALIDATION]:
        valid, choice = [*valid, *musdb], "MUSDB18's published list"
    elif valid:
        choice = "the folder valid/"
    elif len(sung := [s for s in train if not s.voiceless]) > 1:
        count = min(valid_songs or max(1, len(sung) // 10), len(sung) - 1)
        order = np.random.default_rng(seed).permutation(len(sung))
        valid, choice = [sung[i] for i in sorted(order[:count])], f"chosen by seed {seed}"
    else:
        choice = "none"
    chosen = {s.name for s in valid}
    more = find_instrumentals(instrumentals) if instrumentals else []
    elsewhere = {s.name for s in found.get("test", ())} | everything.keys()
    if twice := sorted({s.name for s in more} & elsewhere):
        raise SongError(f"{instrumentals}: {twice[0]!r} is the name of a song in {root} too; rename one")
    return Library(
        source=str(root),
        splits={
            "train": (*(s for s in everything.values() if s.name not in chosen), *more),
            "valid": tuple(valid),
            "test": tuple(found.get("test", ())),
        },
        validation_choice=choice,
    )


def find_instrumentals(folder: str | Path) -> list[Song]:
    """The music without a voice in a folder: its audio files, and its songs that are accompaniment alone.

    Raises:
      SongError: if there is none, two have the same name, or the folder cannot be looked at.
    """
    with _one_line_errors(folder):
        folder = Path(folder).expanduser()
        found = [_voiceless(path.stem, path) for path in instrumental_files(folder)]
        found += [song for song in _find_songs(folder) if song.voiceless]
    if not found:
        raise SongError(f"{folder}: holds no music without a voice: no audio file, no accompaniment alone")
    if twice := sorted({n for n in names(found) if names(found).count(n) > 1}):
        raise SongError(f"{folder}: two songs are called {twice[0]!r}; rename one")
    return found


def instrumental_files(folder: Path) -> list[Path]:
    """The audio files directly in a folder, sorted, without hidden ones and files of stems.

    Raises:
      SongError: if there is no such folder.
    """
    if not folder.is_dir():
        raise SongError(f"{folder}: no such folder; give the folder that holds music without a voice")
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in SUFFIXES]
    return [p for p in files if not p.name.startswith(".") and not p.name.endswith(STEM_FILE_SUFFIX)]


@contextlib.contextmanager
def _one_line_errors(folder: str | Path) -> Iterator[None]:
    """Turn what happens while a folder is looked through into a SongError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: of a user there is not
        where = getattr(error, "filename", None) or folder
        reason = getattr(error, "strerror", None) or error
        raise SongError(f"{where}: cannot be looked at ({reason}); was it moved just now?") from error


def check_trainable(library: Library) -> None:
    """Check that there are songs to train on and songs to validate on.

    Raises:
      SongError: if there are not.
    """
    sung = [song for song in library.splits["train"] if not song.voiceless]
    if not sung or not library.splits["valid"]:
        raise SongError(
            f"{library.source}: training needs at least two songs with a voice, one of them to validate "
            f"on; found {len(sung)} for training and {len(library.splits['valid'])} for validation"
        )


def _find_songs(folder: Path) -> list[Song]:
    """The songs directly in `folder`, sorted. The first of `LAYOUTS` that knows an entry takes it."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    found = (next(filter(None, (layout(entry) for layout in LAYOUTS)), None) for entry in shown)
    return [song for song in found if song is not None]


def stem_file(entry: Path) -> Song | None:
    """The song in a file `<Artist - Title>.stem.mp4` of MUSDB18, else None."""
    if not entry.is_file() or not entry.name.endswith(STEM_FILE_SUFFIX):
        return None
    return _song(entry.name.removesuffix(STEM_FILE_SUFFIX), _load_stem_file, {"all": entry})


def stem_folder(entry: Path) -> Song | None:
    """The song in a folder of stems, else None.

    A song has `vocals.*` and one of `accompaniment.*`, `mixture.*`, or all of `{drums,bass,other}.*`. A
    folder with other stems is skipped with a warning.
    """
    if not entry.is_dir():
        return None
    files = _stem_files(entry)
    if "vocals" in files and _accompaniment_of(files):
        return _song(entry.name, _load_folder, files)
    if files.keys() == {"accompaniment"}:
        return _voiceless(entry.name, files["accompaniment"])
    if files:
        log.warning(
            "%s: skipped, it needs vocals.* and one of accompaniment.*, mixture.* or "
            "drums/bass/other.*; it has %s",
            entry,
            ", ".join(sorted(p.name for p in files.values())),
        )
    return None


LAYOUTS: tuple[Callable[[Path], Song | None], ...] = (stem_file, stem_folder)
"""How a song may lie on disk. A layout maps an entry of a folder to the song it is, or to None."""


def _stem_files(folder: Path) -> dict[str, Path]:
    """The stems in a folder: stem name -> file. Other files are left out."""
    known = {"vocals", "accompaniment", "mixture", *ACCOMPANIMENT_STEMS}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = path.stem.lower()
        if stem in known and path.suffix.lower() in SUFFIXES and path.is_file():
            if stem in files:
                raise SongError(f"{folder}: two files for {stem}: {files[stem].name}, {path.name}")
            files[stem] = path
    return files


def _accompaniment_of(files: dict[str, Path]) -> tuple[str, ...]:
    """The stems whose sum is the accompaniment, or none.

    `("mixture",)` stands for the mixture minus the vocals.
    """
    if "accompaniment" in files:
        return ("accompaniment",)
    if all(s in files for s in ACCOMPANIMENT_STEMS):
        return ACCOMPANIMENT_STEMS
    return ("mixture",) if "mixture" in files else ()


def _song(name: str, load: Callable[[str, dict[str, Path], int], Stems], files: dict[str, Path]) -> Song:
    """A song in files. Its fingerprint is made of their names, sizes and times of change."""
    stats = sorted((k, p.name, p.stat().st_size, p.stat().st_mtime_ns) for k, p in files.items())
    digest = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    return Song(name, lambda rate: load(name, files, rate), digest)


def _read_stereo(path: Path, rate: int) -> np.ndarray:
    """Read a stem, float32 `[S, 2]` at `rate` Hz."""
    try:
        samples, file_rate = read(path)
    except AudioError as error:
        raise SongError(f"{error}; replace the file, or move its song out of the folder") from error
    resampled = resample(as_stereo(samples, path), file_rate, rate)
    if not len(resampled):
        raise SongError(f"{path}: is too short to be resampled; move its song out of the folder")
    return resampled


def as_stereo(samples: np.ndarray, path: Path) -> np.ndarray:
    """Make mono samples stereo: `[S, 1]` or `[S, 2]` -> `[S, 2]`.

    Args:
      samples: the samples.
      path: their file, for the message.

    Raises:
      SongError: if there are more than two channels.
    """
    if samples.shape[1] > 2:
        raise SongError(
            f"{path}: has {samples.shape[1]} channels; training songs are mono or stereo, mix it down"
        )
    return np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples


def _voiceless(name: str, path: Path) -> Song:
    """Music without a voice."""

    def load(name: str, files: dict[str, Path], rate: int) -> Stems:
        accompaniment = _read_stereo(files["accompaniment"], rate)
        return Stems(np.zeros_like(accompaniment), accompaniment)

    return dataclasses.replace(_song(name, load, {"accompaniment": path}), voiceless=True)


def with_training_songs(library: Library, songs: Sequence[Song]) -> Library:
    """A library with more songs to train on; raises SongError if one has the name of another."""
    there = {song.name for split in library.splits.values() for song in split}
    if taken := [song.name for song in songs if song.name in there]:
        raise SongError(f"{library.source}: there is a song called {taken[0]} already; rename it")
    train = (*library.splits["train"], *songs)
    return dataclasses.replace(library, splits=library.splits | {"train": train})


def at_speeds(library: Library, speeds: Sequence[float]) -> Library:
    """A library whose training songs are there at each of `speeds`, too, as other singers and players.

    A song at speed 1.1 is shorter by that factor, and higher in pitch: it is resampled. Other splits stay.
    Speeds are told apart to a hundredth; the song's own one is there already.
    """
    others = sorted({round(speed, 2) for speed in speeds} - {1.0})
    more = [_at_speed(song, speed) for speed in others for song in library.splits["train"]]
    return with_training_songs(library, more)


def _at_speed(song: Song, speed: float) -> Song:
    def load(rate: int) -> Stems:
        stems = song.load(rate)
        played = round(rate * speed)
        return Stems(*(resample(x, played, rate) for x in (stems.vocals, stems.accompaniment)))

    name = f"{song.name} (speed {speed:g})"
    return dataclasses.replace(song, name=name, load=load, fingerprint=f"{song.fingerprint} {speed:g}")


def _load_folder(name: str, files: dict[str, Path], rate: int) -> Stems:
    """Load the song in a folder of stems."""
    stems = {k: _read_stereo(p, rate) for k, p in files.items()}
    length = _common_length(files["vocals"].parent, stems, rate)
    stems = {k: x[:length] for k, x in stems.items()}
    parts = _accompaniment_of(files)
    if parts == ("mixture",):
        return _checked(name, Stems(stems["vocals"], stems["mixture"] - stems["vocals"]))
    return _checked(name, Stems(stems["vocals"], _sum(stems, parts), stems.get("mixture")))


def _load_stem_file(name: str, files: dict[str, Path], rate: int) -> Stems:
    """Load the song in a `.stem.mp4`, which is `files["all"]`."""
    path = files["all"]
    streams, file_rate = _decode_stem_file(path)
    stems = {
        k: resample(as_stereo(x, path), file_rate, rate)
        for k, x in zip(STEM_FILE_ORDER, streams, strict=True)
    }
    length = _common_length(path, stems, rate)
    stems = {k: x[:length] for k, x in stems.items()}
    accompaniment = _sum(stems, ACCOMPANIMENT_STEMS)
    return _checked(name, Stems(stems["vocals"], accompaniment, stems["mixture"]))


def _decode_stem_file(path: Path) -> tuple[list[np.ndarray], int]:
    """The five audio streams of a `.stem.mp4`, float32 `[S, C]` each, and their sample rate."""
    try:
        with Reader(path) as reader:
            count, rate = reader.streams, reader.rate
        if count != len(STEM_FILE_ORDER):
            raise SongError(
                f"{path}: has {count} audio streams, a MUSDB18 stem file has "
                f"{len(STEM_FILE_ORDER)}; use another file"
            )
        # The file is read once for each stream.
        streams = [read(path, stream) for stream in range(count)]
    except AudioError as error:
        raise SongError(str(error)) from error
    if any(other != rate for _, other in streams):
        raise SongError(f"{path}: its streams differ in sample rate; use another file")
    return [samples for samples, _ in streams], rate


def _sum(stems: dict[str, np.ndarray], parts: Sequence[str]) -> np.ndarray:
    return np.asarray(np.sum([stems[p] for p in parts], axis=0, dtype=np.float32))


def _common_length(where: Path, stems: dict[str, np.ndarray], rate: int) -> int:
    """The length in samples to cut all stems to: that of the shortest.

    Raises:
      SongError: if they differ by more than `_LENGTH_TOLERANCE_SECONDS`.
    """
    lengths = {k: x.shape[0] for k, x in stems.items()}
    shortest, longest = min(lengths.values()), max(lengths.values())
    seconds = (longest - shortest) / rate
    if seconds > _LENGTH_TOLERANCE_SECONDS:
        listed = ", ".join(f"{k} {n / rate:.2f} s" for k, n in sorted(lengths.items()))
        raise SongError(
            f"{where}: stems differ in length ({listed}); they do not belong together: replace them"
        )
    if seconds > 0:
        log.warning("%s: stems differ in length by %.3f s; cut to the shortest", where, seconds)
    return shortest


def _report_difference(name: str, mixture: np.ndarray, song: Stems) -> None:
    """Warn if a given mixture is not the sum of the stems."""
    rms = float(np.sqrt(np.mean(np.square(mixture, dtype=np.float64))))
    difference = float(
        np.sqrt(np.mean(np.square(mixture - (song.vocals + song.accompaniment), dtype=np.float64)))
    )
    if difference > _MIXTURE_DIFFERS * rms + 1e-6:
        log.warning(
            "%s: the given mixture differs from the sum of the stems by %.1f dB relative to it; "
            "training uses the sum",
            name,
            20 * np.log10(difference / max(rms, 1e-10)),
        )


def _checked(name: str, song: Stems) -> Stems:
    """Give the song back; warn if its mixture is not the sum of its stems, or if a stem is silent."""
    if song.given_mixture is not None:
        _report_difference(name, song.given_mixture, song)
    for stem, x in (("vocals", song.vocals), ("accompaniment", song.accompaniment)):
        if np.abs(x).max() < _SILENCE:
            log.warning("%s: its %s are silent; remove the song if that is a mistake", name, stem)
    return song


def names(songs: Iterable[Song]) -> list[str]:
    """The names of the songs, in the same order."""
    return [s.name for s in songs]
