"""Masking a waveform as it comes, all of it in one compiled program: a waveform in, the voice out.

Computes what `streaming.MaskFilter` computes, with the STFT, patches, masks and inverse STFT on the device
beside the network, and nothing between host and device but samples.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames, `T` frames of a patch, `P` patches
of a call, `G` groups of channels, `K` channels that the network sees together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.audio import device_stft
from vocalsep_jax.audio.masks import crossfade_weights, patch_count, patch_step
from vocalsep_jax.audio.stft import OverlapAdder, Stft
from vocalsep_jax.separation.streaming import AHEAD, Lead

Array = jax.Array


def one_program_suits(platform: str) -> bool:
    """Whether one program is to be preferred to SciPy's STFT beside the network.

    On CPUs it takes a tenth longer. Elsewhere the host's part of the work would keep the device waiting.
    """
    return platform != "cpu"


class Carry(NamedTuple):
    """What the next patches need of those before them.

    Attributes:
      samples: that the next frame begins with, float32 `[C, n_fft - hop]`.
      spectra: of the frames whose mask is not final, complex64 `[C, F, T - step]`.
      masks: sums of their masks so far, float32 of that shape.
      weight: the sums' weights, float32 `[T - step]`.
      tail: of the overlap-add.
    """

    samples: Any
    spectra: Any
    masks: Any
    weight: Any
    tail: Any


class VoiceProgram:
    """The program of a network and a number of channels: the voice in so many samples at a time.

    Attributes:
      stft: the transform.
      channels: C.
      patch_frames: T.
      step: frames from one patch to the next.
      patches: P.
      begin: from the first samples, float32 `[C, first_samples]`, to the `Carry` of the first call.
      proceed: the network's variables, the `Carry` (which is used up), the next samples, float32
        `[C, samples]`, and how many of the P patches count (the others lie beyond the waveform's end), to
        the next `Carry` and the voice in the frames that are then final, float32 `[C, samples]`.
    """

    def __init__(
        self,
        stft: Stft,
        predict: Callable[[Any, Array], Array],
        *,
        patch_frames: int,
        batch_size: int,
        overlap: float,
        groups: Sequence[tuple[int, ...]],
    ):
        """Set up; compiles when it is first called.

        Args:
          stft: the transform.
          predict: the network's variables and float32 magnitudes `[P G, F, T]`, or `[P G, F, T, K]` if K is
            not 1, to masks of that shape.
          patch_frames: T.
          batch_size: magnitudes predicted at once, at most.
          overlap: share of a patch that overlaps the next, in [0, 1).
          groups: the K channels that the network sees together, see `streaming.channel_groups`.

        Raises:
          ValueError: if `overlap` is out of range, or there are more groups than `batch_size`.
        """
        if len(groups) > batch_size:
            raise ValueError(f"{len(groups)} groups of channels do not fit a batch of {batch_size}")
        self.stft, self.patch_frames = stft, patch_frames
        self.channels = 1 + max(map(max, groups))
        self.step = patch_step(patch_frames, overlap)
        self.patches = batch_size // len(groups)
        self._before = stft.n_fft - stft.hop  # samples that a frame begins with before its last hop
        self._pieces = -(-patch_frames // self.step)  # of a patch: steps, the last one perhaps in part
        self._predict, self._groups = predict, groups
        self._crossfade = crossfade_weights(patch_frames)
        self.begin = jax.jit(self._begin)
        self.proceed = jax.jit(self._proceed, donate_argnums=1)

    @property
    def first_samples(self) -> int:
        """Samples that `begin` takes: of the frames in which patches overlap."""
        return self._before + (self.patch_frames - self.step) * self.stft.hop

    @property
    def samples(self) -> int:
        """Samples that `proceed` takes, and gives."""
        return self.patches * self.step * self.stft.hop

    def _begin(self, samples: Array) -> Carry:
        spectra = self._spectra(samples)
        return Carry(
            samples[:, -self._before :],
            spectra,
            jnp.zeros(spectra.shape, jnp.float32),
            jnp.zeros(spectra.shape[-1], jnp.float32),
            OverlapAdder(self.stft, (self.channels,), jnp).tail,
        )

    def _proceed(self, variables: Any, carry: Carry, samples: Array, valid: Array) -> tuple[Carry, Array]:
        final = self.patches * self.step
        samples = jnp.concatenate([carry.samples, samples], axis=1)
        spectra = jnp.concatenate([carry.spectra, self._spectra(samples)], axis=2)
        masks = self._masks(variables, jnp.moveaxis(self._cut(jnp.abs(spectra)), 2, 0))  # [P, C, F, T]
        counts = (jnp.arange(self.patches) < valid).astype(jnp.float32)
        crossfade = counts[:, None] * self._crossfade[None]  # [P, T]
        sums = self._added(carry.masks, jnp.moveaxis(masks * crossfade[:, None, None], 0, 2))
        weight = self._added(carry.weight, crossfade)
        # Where nothing counts, beyond the end, the voice is silent.
        mask = sums[..., :final] / jnp.maximum(weight[:final], np.finfo(np.float32).tiny)[None, None]
        adder = OverlapAdder(self.stft, (self.channels,), jnp, carry.tail)
        voice = adder.push(spectra[..., :final] * mask)
        left = samples[:, -self._before :]
        return Carry(left, spectra[..., final:], sums[..., final:], weight[final:], adder.tail), voice

    def _spectra(self, samples: Array) -> Array:
        """All frames that lie wholly in `[C, S]`: complex64 `[C, F, N]`; N may be 0."""
        if samples.shape[1] < self.stft.n_fft:
            return jnp.zeros((len(samples), self.stft.bins, 0), jnp.complex64)
        return lax.complex(*device_stft.transform(samples, self.stft))

    def _cut(self, x: Array) -> Array:
        """The patches in `[..., T - step + P step]`: `[..., P, T]`."""
        count, step = self.patches, self.step
        x = _padded(x, (count + self._pieces - 1) * step)
        beside = [x[..., n * step : (n + count) * step] for n in range(self._pieces)]
        cut = [piece.reshape(*x.shape[:-1], count, step) for piece in beside]
        return jnp.concatenate(cut, axis=-1)[..., : self.patch_frames]

    def _added(self, before: Array, patches: Array) -> Array:
        """The sums of patches `[..., P, T]` where they overlap, and of those `before`, `[..., T - step]`.

        The transpose of `_cut`: `[..., T - step + P step]`.
        """
        count, step = self.patches, self.step
        patches = _padded(patches, self._pieces * step)
        total = _padded(before, (count + self._pieces - 1) * step)
        for n in range(self._pieces):
            piece = patches[..., n * step : (n + 1) * step].reshape(*patches.shape[:-2], count * step)
            total = total.at[..., n * step : (n + count) * step].add(piece)
        return total[..., : before.shape[-1] + count * step]

    def _masks(self, variables: Any, patches: Array) -> Array:
        """Each channel's masks `[P, C, F, T]` of its magnitudes."""
        together = len(self._groups[0])
        rows = patches[:, np.array(self._groups)]  # [P, G, K, F, T]
        rows = jnp.moveaxis(rows, 2, -1).reshape(-1, *patches.shape[2:], together)
        masks = self._predict(variables, rows[..., 0] if together == 1 else rows)
        masks = masks.reshape(len(patches), len(self._groups), *patches.shape[2:], together)
        of_channels = []
        for channel in range(self.channels):
            (group,) = (n for n, channels in enumerate(self._groups) if channel in channels)
            # More than one where it stands for others that are missing.
            places = [k for k, c in enumerate(self._groups[group]) if c == channel]
            of_channels.append(masks[:, group][..., np.array(places)].mean(-1))
        return jnp.stack(of_channels, axis=1)


def _padded(x: Array, size: int) -> Array:
    """`x` with zeros at the end of its last axis, up to `size`."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


class CompiledFilter:
    """A waveform goes in, and its voice comes out: `streaming.Filter`, by a `VoiceProgram`.

    Attributes:
      latency: samples.
    """

    def __init__(self, program: VoiceProgram, variables: Any, place: Any):
        """Start a waveform.

        Args:
          program: which may serve others at the same time.
          variables: of the network, on the device.
          place: that device.
        """
        self._program, self._variables, self._place = program, variables, place
        stft = program.stft
        frames = program.patch_frames + AHEAD * program.patches * program.step
        self.latency = stft.samples(frames) + stft.n_fft
        self._came = self._went = self._patches = 0
        self._carry: Carry | None = None
        # Zeros before the first sample, so that it lies in as many frames as any other.
        self._waiting = np.zeros((program.channels, stft.n_fft), np.float32)
        self._lead = Lead(stft.n_fft)
        self._pending: deque[Any] = deque()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those that are final, `[S', C]`, S' from 0 on."""
        self._came += len(samples)
        at_once = self._program.samples  # a song in one piece would be copied whole
        parts = np.split(samples, range(at_once, len(samples), at_once))
        return np.concatenate([self._filter(part.T, None) for part in parts])

    def finish(self) -> np.ndarray:
        """End the waveform: the samples that are left, `[S', C]`."""
        program, stft = self._program, self._program.stft
        frames = stft.frames(self._came)
        calls = -(-frames // (program.patches * program.step))
        missing = program.first_samples + calls * program.samples - stft.n_fft - self._came
        left = self._came - self._went
        silence = np.zeros((program.channels, missing), np.float32)
        return self._filter(silence, patch_count(frames, program.patch_frames, program.step))[:left]

    def _filter(self, samples: np.ndarray, patches: int | None) -> np.ndarray:
        """What `[C, S]` more samples make final; all, if it is known how many `patches` count."""
        program = self._program
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        if self._carry is None and self._waiting.shape[1] >= program.first_samples:
            self._carry = program.begin(self._next(program.first_samples))
        out = [np.zeros((0, program.channels), np.float32)]
        while self._carry is not None and self._waiting.shape[1] >= program.samples:
            valid = program.patches if patches is None else max(0, patches - self._patches)
            now = self._next(program.samples)
            self._carry, voice = program.proceed(self._variables, self._carry, now, np.int32(valid))
            self._patches += program.patches
            self._pending.append(voice)
            out += self._received(AHEAD - 1)
        if patches is not None:
            out += self._received(0)
        self._went += sum(map(len, out))
        return np.concatenate(out)

    def _next(self, count: int) -> Array:
        """The first samples that wait, on the device."""
        now, self._waiting = np.split(self._waiting, [count], axis=1)
        return jax.device_put(now, self._place)

    def _received(self, ahead: int) -> Iterator[np.ndarray]:
        """What was started, `[S, C]` each, but for the last `ahead` calls, which go on meanwhile."""
        while len(self._pending) > ahead:
            yield self._lead.dropped(np.asarray(self._pending.popleft()).T)
