"""The networks that ours are compared with, written in PyTorch from their definition.

`TorchUNet` is the network of the reference recipe; with `visual` channels, the co-separation audio network.
Its layers have the names of the published checkpoint; the decoder's are published with another prefix.
"""

import numpy as np
import torch
from torch import nn

PUBLISHED = "audionet_upconvlayer"
OURS = "upconvlayer"


class TorchUNet(nn.Module):
    """Conv-BatchNorm-LeakyReLU down, transposed-conv-BatchNorm-ReLU up, skips, a sigmoid."""

    def __init__(self, width=64, depth=7, *, visual=0, decoder=OURS):
        super().__init__()
        down = [width * min(2**n, 8) for n in range(depth)]
        up = [*reversed(down[:-1]), 1]
        inputs = [1, *down]
        self.visual, self.depth, self.decoder = visual, depth, decoder
        for n in range(depth):
            block = nn.Sequential(
                nn.Conv2d(inputs[n], down[n], 4, stride=2, padding=1),
                nn.BatchNorm2d(down[n]),
                nn.LeakyReLU(0.2),
            )
            self.add_module(f"audionet_convlayer{n + 1}", block)
        channels = down[-1] + visual
        for n in range(depth):
            layers = [nn.ConvTranspose2d(channels, up[n], 4, stride=2, padding=1)]
            layers += [nn.BatchNorm2d(up[n]), nn.ReLU()] if n < depth - 1 else [nn.Sigmoid()]
            self.add_module(f"{decoder}{n + 1}", nn.Sequential(*layers))
            channels = up[n] + (down[depth - 2 - n] if n < depth - 1 else 0)

    @property
    def down(self):
        return [self.get_submodule(f"audionet_convlayer{n + 1}") for n in range(self.depth)]

    @property
    def up(self):
        return [self.get_submodule(f"{self.decoder}{n + 1}") for n in range(self.depth)]

    def encode(self, x):
        """[B, F, T] to the outputs of all down blocks, [B, C, F', T']."""
        x, skips = x[:, None], []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        return skips

    def forward(self, x, visual=None):
        """[B, F, T] (and the visual feature, [B, V, 1, 1]) to [B, F, T]."""
        skips = self.encode(x)
        x = skips.pop()
        if self.visual:
            x = torch.cat([visual.expand(-1, -1, *x.shape[2:]), x], dim=1)
        for n, layer in enumerate(self.up):
            if n:
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x)
        return x[:, 0]


def randomise(network, seed):
    """Random weights AND random running statistics, of sizes that keep activations of order one."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, std):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = (
                    module.weight[0].numel()
                    if isinstance(module, nn.Conv2d)
                    else (module.weight.shape[0] * 4)
                )
                normal(module.weight, 0.0, fan_in**-0.5)
                normal(module.bias, 0.0, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                normal(module.weight, 1.0, 0.1)
                normal(module.bias, 0.0, 0.1)
                normal(module.running_mean, 0.0, 0.1)
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))


def to_flax(network):
    """Parameters and batch statistics of a TorchUNet as the Flax network's."""
    params, stats = {}, {}

    def array(tensor):
        return tensor.detach().numpy().astype(np.float32)

    for direction, axes in (("down", (2, 3, 1, 0)), ("up", (2, 3, 0, 1))):
        for n, block in enumerate(getattr(network, direction), start=1):
            kernel = np.ascontiguousarray(array(block[0].weight).transpose(axes))
            if direction == "up" and n == 1:
                kernel = kernel[:, :, network.visual :]
            params[f"{direction}{n}"] = {"kernel": kernel, "bias": array(block[0].bias)}
            if isinstance(block[1], nn.BatchNorm2d):
                norm = block[1]
                params[f"{direction}{n}_norm"] = {
                    "scale": array(norm.weight),
                    "bias": array(norm.bias),
                }
                stats[f"{direction}{n}_norm"] = {
                    "mean": array(norm.running_mean),
                    "var": array(norm.running_var),
                }
    return params, stats


def gradients_to_flax(network):
    """Gradients of a TorchUNet in the shape of the Flax network's parameters (0 where there is none)."""
    copy = TorchUNet(network.down[0][0].out_channels, network.depth, visual=network.visual)
    with torch.no_grad():
        for target, source in zip(copy.parameters(), network.parameters(), strict=True):
            target.copy_(torch.zeros_like(source) if source.grad is None else source.grad)
    return to_flax(copy)[0]
