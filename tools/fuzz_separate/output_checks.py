"""The outputs of a song, compared with what they are to be."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np

from tools.fuzz_separate.cases import Case
from tools.fuzz_separate.expected import Expected, expected_of, part_of
from tools.fuzz_separate.formats import BITS, LOSSY, OUTPUT_SUBTYPES, mp3_bit_rates
from tools.fuzz_separate.reader import Sound, by_libsndfile, sound_of
from vocalsep_jax.audio import files


def check_outputs(case: Case, usable: bool | None, path: Path, outputs: dict[str, Path]) -> Expected | None:
    """Check the outputs of a song that was separated.

    Args:
      case: problems are added to it.
      usable: whether the song is known to be undamaged.
      path: the song's file.
      outputs: the file of each stem.

    Returns:
      What they are to be; None where that cannot be told.
    """
    wrong = case.problems.append
    sound, blocks = sound_of(path), _read_in_blocks(path)
    read_from_damaged = blocks is not None or case.duration is not None
    if usable is None and sound is None and read_from_damaged:
        return None
    if sound is None:
        wrong(f"{path.name!r} cannot be read, and has outputs")
        return None
    allowed = 1e-4 * (sound.subtype in LOSSY)
    if usable and (blocks is None or not np.allclose(blocks, sound.samples, rtol=0, atol=allowed)):
        wrong(f"{path.name!r}: reading in blocks gives something else than reading at once")
    if blocks is not None:
        sound.samples = blocks
    mixture = part_of(case, sound)
    stems = {}
    for stem, output in outputs.items():
        written = by_libsndfile(output)
        if written is None:
            return None  # reported already
        _check_form(case, stem, written, sound, mixture)
        if case.container == "mp3" and case.bitrate:
            _check_bitrate(case, case.bitrate, output, sound.rate)
        stems[stem] = written.samples
    if not len(mixture) or not all(len(s) >= len(mixture) for s in stems.values()):
        return None
    expected = expected_of(case, mixture, sound.rate)
    if expected is None:
        wrong(f"{path.name!r} cannot be separated at once, and has outputs")
    elif case.sample and all(s.shape == mixture.shape for s in stems.values()):
        _check_samples(case, path, stems, expected)
        if len(stems) == 2 and expected.scale == 1:
            _check_sum(case, path, mixture, [s.astype(np.float64) for s in stems.values()], sound.subtype)
    return expected


def _read_in_blocks(path: Path) -> np.ndarray | None:
    """What the project reads of a file; None if it cannot."""
    try:
        with files.Reader(path) as reader:
            return np.concatenate(list(reader.blocks()))
    except files.AudioError:
        return None


def _check_form(case: Case, stem: str, written: Sound, sound: Sound, mixture: np.ndarray) -> None:
    """Check rate, channels, format and length of a stem, and that silence stays silent."""
    wrong = case.problems.append
    if (written.rate, written.channels) != (sound.rate, sound.channels):
        wrong(f"{stem}: {written.rate} Hz, {written.channels} channels of {sound.rate}, {sound.channels}")
    if written.subtype != (subtype := OUTPUT_SUBTYPES[case.sample or case.container]):
        wrong(f"{stem}: subtype {written.subtype}, not {subtype}")
    if not np.isfinite(written.samples).all():
        wrong(f"{stem} is not finite")
    length = len(written.samples)
    if length < len(mixture) or (length > len(mixture) and case.container != "mp3"):
        wrong(f"{stem}: {length} samples, not {len(mixture)}")
    noise = 0 if case.sample else 1e-3  # of a lossy codec
    if len(mixture) and not mixture.any() and np.abs(written.samples).max(initial=0) > noise:
        wrong(f"{stem} of silence is not silent")


def _check_bitrate(case: Case, asked: int, output: Path, rate: int) -> None:
    """Check that an MP3 file has the bit rate that was asked for, or one beside it."""
    import av

    # FFmpeg takes no file of a frame or two for MP3.
    with contextlib.suppress(av.EOFError), av.open(f"file:{output}") as file:
        written = file.streams.audio[0].codec_context.bit_rate / 1000
        rates = mp3_bit_rates(rate)
        below = max(r for r in rates if r <= asked)
        above = min(r for r in rates if r >= asked)
        if not below <= written <= above:
            case.problems.append(f"{output.name!r} has {written} kbit/s, not {asked}")


def _check_samples(case: Case, path: Path, stems: dict[str, np.ndarray], expected: Expected) -> None:
    """Check that lossless stems are what they are to be, within rounding."""
    low, high = (-1.0, case.full_scale) if case.bits else (-math.inf, math.inf)
    for stem, samples in stems.items():
        error = np.abs(samples - np.clip(expected.stems[stem], low, high)).max()
        if error > 1.001 * case.step + expected.error:
            case.problems.append(
                f"{path.name!r}: {stem} is off by {error:.3g} (scale {expected.scale:.3g})"
            )
    if case.clip_mode == "rescale" and max(np.abs(s).max() for s in stems.values()) > 1:
        case.problems.append(f"{path.name!r}: a rescaled stem is beyond full scale")


def _check_sum(case: Case, path: Path, mixture: np.ndarray, stems: list[np.ndarray], subtype: str) -> None:
    """Check that the stems sum to the mixture, whose samples are of a subtype, where they do not clip."""
    error = np.abs(sum(stems) - mixture.astype(np.float64))
    if case.bits is None:
        allowed = 1e-6 * max(1.0, float(np.abs(mixture).max()))
    else:
        inside = np.all([(s > -1) & (s < case.full_scale) for s in stems], axis=0)
        error = error[inside]
        allowed = 0.0 if BITS.get(subtype, 99) <= case.bits else case.step
    if error.size and error.max() > allowed:
        case.problems.append(
            f"{path.name!r}: the stems sum to it within {error.max():.3g}, not {allowed:.3g}"
        )
