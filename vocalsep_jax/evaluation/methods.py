"""What is compared: checkpoints, methods that need no training, and the ends of the scale."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vocalsep_jax import __version__
from vocalsep_jax.audio.masks import ideal_binary_mask, ideal_ratio_mask
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.songs import Stems
from vocalsep_jax.evaluation.hpss import hpss_voice
from vocalsep_jax.evaluation.repet_sim import repet_sim
from vocalsep_jax.evaluation.scores import masked_by_truth
from vocalsep_jax.runtime.console import one_line
from vocalsep_jax.separation.separator import Separator

SEPARATION = 1
"""Another one whenever a checkpoint or an ideal mask gives something else for the same song, as by another
STFT, overlap or resampling, so that scores that were kept are not taken for those of the new code."""


@dataclass(frozen=True)
class Method:
    """A way to the voice of a song.

    Attributes:
      name: unique among the methods of a call, on one line, and text (no lone surrogates).
      description: what it does, in a sentence.
      vocals: from a song's stems and their rate in Hz to the estimated vocals, float32 `[S, C]`.
      depends_on: what its results depend on, beside the song and the rate; JSON values.
      is_checkpoint: whether it is one of those that are compared.
      is_blind: whether it hears the mixture alone, so that what it takes for voice in music without one
        tells something.
      keeps_mixture: whether its accompaniment is the mixture, too, rather than the mixture less the vocals.
    """

    name: str
    description: str
    vocals: Callable[[Stems, int], np.ndarray]
    depends_on: dict[str, Any] = field(default_factory=dict)
    is_checkpoint: bool = False
    is_blind: bool = False
    keeps_mixture: bool = False

    def accompaniment(self, song: Stems, vocals: np.ndarray) -> np.ndarray:
        """Its accompaniment `[S, C]`, from its vocals."""
        return song.mixture if self.keeps_mixture else song.mixture - vocals

    def taken_from_music(self, song: Stems, rate: int) -> np.ndarray:
        """What it takes for voice in the accompaniment alone, `[S, C]`."""
        return self.vocals(Stems(np.zeros_like(song.accompaniment), song.accompaniment), rate)


def checkpoint_method(name: str, separator: Separator, options: dict[str, Any]) -> Method:
    """A checkpoint as a method; `options` are those it was loaded with."""
    return Method(
        name,
        f"the checkpoint, step {separator.step}",
        lambda song, rate: separator.separate(song.mixture, rate)["vocals"],
        {"checkpoint": content_hash(separator), **options, **_code()},
        is_checkpoint=True,
        is_blind=True,
    )


def _code() -> dict[str, Any]:
    """What the results of this package's own separation depend on beside their inputs."""
    return {"separation": SEPARATION, "version": __version__}


def content_hash(separator: Separator) -> str:
    """A digest of all that a checkpoint's output depends on: its network, its numbers and its transform.

    Not of its files: a copy, or the same checkpoint exported, has the same.
    """
    import jax

    settings = (separator.model, separator.stft, separator.sample_rate, separator.patch_frames)
    digest = hashlib.sha256(repr(settings).encode())
    for path, leaf in jax.tree.leaves_with_path(separator.variables):
        values = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def all_methods(checkpoints: Sequence[Method], stft: Stft, mask_rate: int) -> list[Method]:
    """The checkpoints, and all that they are measured against.

    Args:
      checkpoints: those that are compared.
      stft: the transform of the ideal masks.
      mask_rate: Hz, at which these work.
    """
    masks = {"stft": [stft.n_fft, stft.hop], "mask_rate": mask_rate, **_code()}
    truth = partial(masked_by_truth, stft=stft, mask_rate=mask_rate)
    where = f"made of the true stems, at {mask_rate} Hz, STFT {stft.n_fft}/{stft.hop}"
    return [
        *checkpoints,
        Method(
            "REPET-SIM",
            "what does not repeat (Rafii & Pardo 2012); not trained",
            lambda song, rate: repet_sim(song.mixture, rate),
            {"repet_sim": 1},
            is_blind=True,
        ),
        Method(
            "HPSS",
            "harmonic-percussive separation by median filters, twice (FitzGerald 2010; FitzGerald & "
            "Gainza 2010); not trained",
            lambda song, rate: hpss_voice(song.mixture, rate),
            {"hpss": 1},
            is_blind=True,
        ),
        Method(
            "mixture",
            "the mixture in the place of the vocals, and of the accompaniment",
            lambda song, rate: song.mixture,
            keeps_mixture=True,
        ),
        Method(
            "silence",
            "nothing for vocals, the mixture for accompaniment",
            lambda song, rate: np.zeros_like(song.mixture),
        ),
        Method(
            "ideal ratio mask",
            f"the mixture through |V| / (|V| + |A|) {where}",
            partial(truth, mask=ideal_ratio_mask),
            masks | {"mask": "ratio"},
        ),
        Method(
            "ideal binary mask",
            f"the mixture through the mask that is 1 where |V| > |A|, {where}",
            partial(truth, mask=ideal_binary_mask),
            masks | {"mask": "binary"},
        ),
    ]


NAMES = ("REPET-SIM", "HPSS", "mixture", "silence", "ideal ratio mask", "ideal binary mask")
"""Names that `all_methods` uses besides those of the checkpoints."""

QUICK_NAMES = ("mixture", "silence", "estimate", "ideal", "leakage")
"""Names of columns of the quick table of uSDR."""


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """For each checkpoint's path, as many of its last parts as tell it from the others.

    They can be shown as they are: bytes that are no text and line ends are escaped. A name that stands for
    something else has `checkpoint` before it.

    Raises:
      ValueError: if two paths are of one place.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(p for n, p in enumerate(paths) if parts[n] in parts[:n])
        raise ValueError(f"{twice}: this checkpoint is named twice")
    names = [p[-1] for p in parts]
    for length in range(2, 1 + max(map(len, parts))):
        names = [
            "/".join(p[-length:]) if names.count(n) > 1 else n for p, n in zip(parts, names, strict=True)
        ]
    names = [one_line(name) for name in names]
    reserved = {*NAMES, *QUICK_NAMES, *(f"{name} leakage" for name in names)}
    for n, name in enumerate(names):
        while name in reserved or name in names[:n] + names[n + 1 :]:
            name = f"checkpoint {name}"
        names[n] = name
    return names
