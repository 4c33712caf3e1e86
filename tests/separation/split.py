"""A separation without a network, for tests of what is around it."""

import functools

import numpy as np

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.separation.stem_files import STEMS, separate_to_files

SHARE = np.float32(0.3)


def split(blocks, rate, share=SHARE):
    """A share of the mixture is the voice; with a share above 1, stems are louder than their song."""
    for block in blocks:
        vocals = np.float32(share) * block
        yield {"vocals": vocals, "no_vocals": block - vocals}


def outputs_in(folder, suffix="wav", stems=STEMS):
    return {name: folder / f"{name}.{suffix}" for name in stems}


def separate(path, outputs, share=SHARE, **options):
    """`separate_to_files` with `split`."""
    defaults = {
        "encoding": Encoding(), "clip_mode": "clamp", "start": 0.0, "duration": None, "progress": None,
    }  # fmt: skip
    by_share = functools.partial(split, share=share)
    return separate_to_files(by_share, path, outputs, **defaults | options)


class Splitter:
    """In the place of a `Separator`; notes the songs it is given."""

    def __init__(self):
        self.songs = []

    def separate_to(self, path, outputs, **options):
        self.songs.append(path)
        return separate(path, outputs, **options)
