"""Formats of sound files: those that inputs are written in, and what the outputs' containers hold."""

from __future__ import annotations

from vocalsep_jax.audio import files, pyav

RATES = (1, 100, 4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000)
"""Sample rates of inputs, in Hz."""
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
VORBIS_RATES = (8000, 11_025, 22_050, 44_100, 48_000)
"""Those of `RATES` at which its encoder is known to work, with any number of channels."""

CONTAINERS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS",),
    "MP3": ("MPEG_LAYER_III",),
    "AIFF": ("PCM_16", "PCM_24", "FLOAT"),
    "AU": ("PCM_16", "PCM_32", "DOUBLE"),
    "W64": ("PCM_16",),
    "CAF": ("PCM_24",),
    "OPUS": ("OPUS",),
}
"""Subtypes of what libsndfile writes, by container."""
SUFFIXES_OF = {"AIFF": (".aiff", ".aif"), "OGG": (".ogg", ".oga"), "WAV": (".wav", ".WAV")}
LIBSNDFILE_SUFFIXES = tuple(x for x in files.SUFFIXES if x not in pyav.SUFFIXES)

STEM_FILE_SUFFIX = ".stem.mp4"
CODECS = {
    ".m4a": ("mp4", ("aac", "alac")),
    ".aac": ("adts", ("aac",)),
    ".mp4": ("mp4", ("aac",)),
    STEM_FILE_SUFFIX: ("mp4", ("aac",)),
    ".mov": ("mov", ("aac", "pcm_s16le")),
    ".mkv": ("matroska", ("aac", "flac", "ac3", "libmp3lame", "libopus", "pcm_s16le")),
    ".webm": ("webm", ("libopus",)),
    ".avi": ("avi", ("mp2", "libmp3lame", "pcm_s16le")),
    ".ts": ("mpegts", ("aac", "mp2")),
    ".3gp": ("3gp", ("aac",)),
}
"""FFmpeg's names of formats and encoders, by suffix."""
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""FFmpeg's names, by the number of channels."""
PRIMING = 3000
"""Samples that a lossy codec adds to a sound, at most."""

BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
LOSSY = ("VORBIS", "MPEG_LAYER_III", "OPUS")

OUTPUT_SUBTYPES = {
    "int16": "PCM_16",
    "int24": "PCM_24",
    "float32": "FLOAT",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
}
"""libsndfile's names, by sample format; of a lossy coding, by container."""
BIT_RATES = {"mp3": (8, 320), "ogg": (64, 500)}
"""The lowest and the highest that `--bitrate` takes, in kbit/s."""
MP3_BIT_RATES = {
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64),
}
"""kbit/s, by the lowest sample rate that has them."""


def mp3_bit_rates(rate: int) -> tuple[int, ...]:
    """The bit rates that MP3 has at a sample rate in Hz, in kbit/s."""
    return next(rates for lowest, rates in MP3_BIT_RATES.items() if rate >= lowest)
