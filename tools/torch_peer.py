"""What `benchmark.py` compares with: the same network, and the same input, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tests.torch_unet import TorchUNet
from tools.input_crops import RandomCrops
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.data.prepared import MemoryStore
from vocalsep_jax.runtime.cores import available_cores

LOADER_WORKERS = available_cores()  # as many as the tf.data pipeline takes


class TorchPeer:
    """The network of the tests in PyTorch, channels last; parameters float32, the rest in `dtype`.

    Attributes:
      name: what it is called in results.
    """

    def __init__(self, width: int, depth: int, dtype: str, device: str, compiled: bool):
        self._device = device
        self._network = TorchUNet(width, depth).to(device).to(memory_format=torch.channels_last)
        self._call = torch.compile(self._network) if compiled else self._network
        self._dtype = getattr(torch, dtype)
        self.name = f"PyTorch {torch.__version__}{' compiled' if compiled else ''}"

    def train_step(self, batch: Batch) -> Callable[[], None]:
        """Its training step on a batch."""
        self._network.train()
        optimizer = torch.optim.AdamW(self._network.parameters(), lr=1e-5, weight_decay=1e-6)
        mixture, vocals = (torch.from_numpy(x).to(self._device) for x in (batch.mixture, batch.vocals))

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss = ((self._mask(mixture) * mixture - vocals) ** 2).mean()
            loss.backward()
            optimizer.step()
            loss.item()
            self._wait()

        return run

    def forward(self, batch: Batch) -> Callable[[], None]:
        """Its mask of a batch, in evaluation mode."""
        self._network.eval()
        mixture = torch.from_numpy(batch.mixture).to(self._device)

        def run() -> None:
            with torch.inference_mode():
                self._mask(mixture)
            self._wait()

        return run

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Masks of magnitudes, in evaluation mode: `[B, F, T]`, float32, both."""
        self._network.eval()
        with torch.inference_mode():
            return self._mask(torch.from_numpy(x).to(self._device)).cpu().numpy()

    def _mask(self, x: Any) -> Any:
        lower = self._dtype != torch.float32
        with torch.autocast(self._device, self._dtype, enabled=lower):
            return self._call(x).float()

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def layer(
    direction: str, x: np.ndarray, kernel: np.ndarray, gradient: np.ndarray, dtype: str, device: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A convolution, channels last: forward, and with its gradients; arrays as JAX has them."""
    inputs, outputs = kernel.shape[2:]
    kind = torch.nn.Conv2d if direction == "down" else torch.nn.ConvTranspose2d
    axes = (3, 2, 0, 1) if direction == "down" else (2, 3, 0, 1)
    with torch.no_grad():
        conv = kind(inputs, outputs, 4, 2, 1)
        conv.weight.copy_(torch.from_numpy(kernel.transpose(axes).copy()))
    last = torch.channels_last
    conv = conv.to(device, getattr(torch, dtype)).to(memory_format=last)
    x_last, gradient_last = (
        torch.from_numpy(a)
        .to(device, getattr(torch, dtype))
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=last)
        for a in (x, gradient)
    )
    x_last.requires_grad_(inputs > 1)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.inference_mode():
            conv(x_last)
        wait()

    def with_gradients() -> None:
        conv.zero_grad(set_to_none=True)
        x_last.grad = None
        conv(x_last).backward(gradient_last)
        wait()

    return forward, with_gradients


class CropDataset(RandomCrops, torch.utils.data.Dataset):
    """Magnitudes of mixture, vocals and accompaniment of random crops, `[3, F, T]` float32."""

    def __getitem__(self, index: int) -> Any:
        """Sample `index`."""
        stft, stems = self.stft, torch.from_numpy(self.stems(index))
        window = torch.from_numpy(stft.window())
        spectra = torch.stft(stems, stft.n_fft, stft.hop, window=window, center=False, return_complex=True)
        return torch.stack([spectra[0] + spectra[1], spectra[0], spectra[1]]).abs()


def loader(store: MemoryStore, stft: Stft, frames: int, batch_size: int) -> Iterator[Any]:
    """Batches of `CropDataset` from a DataLoader with `LOADER_WORKERS` workers."""
    return iter(
        torch.utils.data.DataLoader(
            CropDataset(store, stft, frames),
            batch_size=batch_size,
            num_workers=LOADER_WORKERS,
            multiprocessing_context="spawn",  # a fork of a process that runs JAX may hang
        )
    )
