"""BSSEval, version 4: how far an estimated source is the true one, others, or neither.

An estimate is split into the true source, a filtered version of it, what filtered versions of all sources
explain beyond that, and the rest (Vincent, Gribonval & Févotte 2006, for stereo images as in Vincent et al.
2007). Version 4 (Stöter, Liutkus & Ito 2018) finds the filters once for a whole song, by least squares, and
takes the energies in frames. The numbers are those of the package `museval` in its mode `v4`.

Axis letters: `J` sources, `S` samples, `C` channels, `N` frames, `F` frequency bins, `M` distinct channels
of all sources, `L` taps of a filter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.linalg

FILTER_LENGTH = 512
"""Taps of the distortion filters that version 4 allows for."""

_BLOCK = 2**15
"""Samples of a block of the correlations: what is in memory does not grow with the song."""


class BssFrames(NamedTuple):
    """Ratios of a song's frames in dB, float64 `[J, N]` each; NaN in frames that have none.

    Attributes:
      sdr: source to distortion: the true source against all that differs from it.
      isr: image to spatial distortion: the true source against what filters of 512 taps made of it.
      sir: source to interference: the filtered source against what is explained by the other sources.
      sar: sources to artefacts: all that is explained by the sources against the rest.
    """

    sdr: np.ndarray
    isr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray


class BssEval:
    """The true sources of a song, against which any number of estimates are measured.

    The correlations of the sources and their factorisation, most of the work, are done once, when they are
    first needed.
    """

    def __init__(
        self,
        references: np.ndarray,
        *,
        window: int,
        hop: int | None = None,
        filter_length: int = FILTER_LENGTH,
    ):
        """Take the true sources.

        Args:
          references: `[J, S, C]`, any real dtype, finite; kept, not copied, if they are float32.
          window: samples of a frame. Where there are fewer in the song, it is one frame.
          hop: samples from one frame to the next; `window` if None.
          filter_length: L, taps of a distortion filter.

        Raises:
          ValueError: if the references are not `[J, S, C]` or hold nothing, or a number is less than 1.
        """
        self._references = np.asarray(references, np.float32)
        if self._references.ndim != 3 or 0 in self._references.shape:
            raise ValueError(f"references are [J, S, C] and not empty, got {np.shape(references)}")
        self._window, self._hop, self._taps = window, window if hop is None else hop, filter_length
        if min(self._window, self._hop, self._taps) < 1:
            raise ValueError("window, hop and filter_length must be at least 1")
        samples = self._references.shape[1]
        count = 1 if window >= samples else 1 + (samples - window) // self._hop
        self._frames = [slice(n * self._hop, min(n * self._hop + window, samples)) for n in range(count)]
        self._factors: list[tuple[np.ndarray, np.ndarray]] | None = None
        self._owners, self._channels = _distinct_channels(self._references)
        self._rows = np.ascontiguousarray(self._references[self._owners, :, self._channels])  # [M, S]

    def score(self, estimates: np.ndarray) -> BssFrames:
        """Measure one estimate of each source.

        A frame in which one of the true or estimated sources is silent has no ratios, for any source: it
        is NaN, as in `museval`; "silent" means that its channels sum to exactly zero at every sample. If
        one of them is silent throughout, all frames are. A ratio over exactly nothing is infinite.

        Args:
          estimates: `[J, S, C]`, any real dtype, finite, shaped as the references, in the same order.

        Returns:
          The ratios of each source and frame.

        Raises:
          ValueError: if the shapes differ.
        """
        estimates = np.asarray(estimates, np.float32)
        if estimates.shape != self._references.shape:
            raise ValueError(
                f"shapes differ: references {self._references.shape}, estimates {estimates.shape}"
            )
        ratios = np.full((4, len(estimates), len(self._frames)), np.nan)
        if not (_any_silent(self._references) or _any_silent(estimates)):
            filters = self._filters(estimates)
            for n, place in enumerate(self._frames):
                truth, guess = self._references[:, place], estimates[:, place]
                if not (_any_silent(truth) or _any_silent(guess)):
                    ratios[:, :, n] = self._ratios(truth, guess, *filters)
        return BssFrames(*ratios)

    def _filters(self, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spectra of the filters that make an estimate of the sources, at the frames' FFT length.

        Returns:
          complex128 `[J, C, M, F]` twice: of all sources' channels, and of the source's own (0 for others).
        """
        if self._factors is None:
            self._factors = self._factorise()
        count, channels = estimates.shape[0], estimates.shape[2]
        flat = np.moveaxis(estimates, 2, 1).reshape(count * channels, -1)
        right = _correlations(self._rows, flat, self._taps).transpose(1, 0, 2)  # [M, L, J C]
        taps = np.zeros((2, count, channels, len(self._rows), self._taps))
        for source in range(count):
            mine = slice(source * channels, (source + 1) * channels)
            for kind, rows in enumerate(
                (np.arange(len(self._rows)), np.flatnonzero(self._owners == source))
            ):
                factor = self._factors[0 if kind == 0 else 1 + source]
                solved = scipy.linalg.lu_solve(factor, right[rows][:, :, mine].reshape(-1, channels))
                taps[kind, source][:, rows] = solved.reshape(len(rows), self._taps, channels).transpose(
                    2, 0, 1
                )
        spectra = scipy.fft.rfft(taps, self._fft_length())
        return spectra[0], spectra[1]

    def _factorise(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """LU factors of the correlations of all sources' delayed channels, and of each source's own."""
        count, taps = len(self._rows), self._taps
        lags = _correlations(self._rows, self._rows, taps)
        gram = np.empty((count, taps, count, taps))
        for first in range(count):
            for second in range(count):
                gram[first, :, second] = scipy.linalg.toeplitz(
                    lags[:, first, second], lags[:, second, first]
                )
        groups = [np.arange(count)]
        groups += [np.flatnonzero(self._owners == n) for n in range(len(self._references))]
        factors = []
        for rows in groups:
            matrix = gram[rows][:, :, rows].reshape(len(rows) * taps, -1)
            matrix[np.diag_indices_from(matrix)] += np.finfo(np.float64).eps  # as museval does
            factors.append(scipy.linalg.lu_factor(matrix, overwrite_a=True))
        return factors

    def _fft_length(self) -> int:
        length = max(place.stop - place.start for place in self._frames)
        return int(scipy.fft.next_fast_len(length + self._taps - 1, real=True))

    def _ratios(
        self, truth: np.ndarray, estimates: np.ndarray, all_filters: np.ndarray, own_filters: np.ndarray
    ) -> np.ndarray:
        """The four ratios `[4, J]` of one frame, whose sources are filtered by themselves.

        Energies are taken from spectra (Parseval): nothing is transformed back.
        """
        length = self._fft_length()
        true = scipy.fft.rfft(np.moveaxis(truth, 1, 2).astype(np.float64), length)  # [J, C, F]
        guess = scipy.fft.rfft(np.moveaxis(estimates, 1, 2).astype(np.float64), length)
        basis = true[self._owners, self._channels]
        explained = np.einsum("jcmf,mf->jcf", all_filters, basis)
        filtered = np.einsum("jcmf,mf->jcf", own_filters, basis)
        weights = np.full(true.shape[-1], 2.0 / length)
        weights[0] /= 2
        if length % 2 == 0:
            weights[-1] /= 2

        def energy(spectra: np.ndarray) -> np.ndarray:
            return np.einsum("jcf,f->j", spectra.real**2 + spectra.imag**2, weights)

        wanted = energy(true)
        pairs = (
            (wanted, energy(guess - true)),
            (wanted, energy(filtered - true)),
            (energy(filtered), energy(explained - filtered)),
            (energy(explained), energy(guess - explained)),
        )
        with np.errstate(divide="ignore"):
            return np.array([10 * np.log10(above / below) for above, below in pairs])


def _distinct_channels(references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Source and channel, `[M]` each, of the channels that filters are sought for.

    A channel that is silent, or a copy of another of its source (mono, written as stereo), explains nothing
    that the others do not. With it the equations would have no single solution.
    """
    kept: list[tuple[int, int]] = []
    for source, samples in enumerate(references):
        for channel in range(samples.shape[1]):
            column = samples[:, channel]
            known = (samples[:, c] for s, c in kept if s == source)
            if column.any() and not any(np.array_equal(column, other) for other in known):
                kept.append((source, channel))
    owners, channels = zip(*kept, strict=True) if kept else ((), ())
    return np.array(owners, int), np.array(channels, int)


def _any_silent(sources: np.ndarray) -> bool:
    """Whether the channels of one of `[J, S, C]` sum to zero at every sample."""
    return not np.any(np.sum(sources, axis=2), axis=1).all()


def _correlations(first: np.ndarray, second: np.ndarray, lags: int) -> np.ndarray:
    """`r[l, m, k] = sum_n first[m, n] second[k, n + l]` for l from 0 to `lags - 1`.

    Args:
      first, second: `[M, S]` and `[K, S]`.
      lags: L, how many.

    Returns:
      float64 `[L, M, K]`.
    """
    samples = first.shape[1]
    block = min(_BLOCK, samples)
    length = int(scipy.fft.next_fast_len(block + lags - 1, real=True))
    total = np.zeros((length // 2 + 1, len(first), len(second)), np.complex128)
    for start in range(0, samples, block):
        short = scipy.fft.rfft(first[:, start : start + block].astype(np.float64), length)
        long = scipy.fft.rfft(second[:, start : start + block + lags - 1].astype(np.float64), length)
        total += np.einsum("mf,kf->fmk", short.conj(), long)
    return scipy.fft.irfft(total, length, axis=0)[:lags]
