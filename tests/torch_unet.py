"""The network of the reference recipe, written in PyTorch: what the Flax one is compared with."""

import numpy as np
import torch
from torch import nn


class TorchUNet(nn.Module):
    """Conv-BatchNorm-LeakyReLU down, transposed-conv-BatchNorm-ReLU up, skips, a sigmoid."""

    def __init__(self, width=64, depth=7):
        super().__init__()
        down = [width * min(2**n, 8) for n in range(depth)]
        up = [*reversed(down[:-1]), 1]
        inputs = [1, *down]
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs[n], down[n], 4, stride=2, padding=1),
                nn.BatchNorm2d(down[n]),
                nn.LeakyReLU(0.2),
            )
            for n in range(depth)
        )
        self.up = nn.ModuleList()
        channels = down[-1]
        for n in range(depth):
            layers = [nn.ConvTranspose2d(channels, up[n], 4, stride=2, padding=1)]
            layers += [nn.BatchNorm2d(up[n]), nn.ReLU()] if n < depth - 1 else [nn.Sigmoid()]
            self.up.append(nn.Sequential(*layers))
            channels = up[n] + (down[depth - 2 - n] if n < depth - 1 else 0)

    def forward(self, x):
        """[B, F, T] to [B, F, T]."""
        x = x[:, None]
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = skips.pop()
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
    """Gradients of a TorchUNet in the shape of the Flax network's parameters."""
    copy = TorchUNet(network.down[0][0].out_channels, len(network.down))
    with torch.no_grad():
        for target, source in zip(copy.parameters(), network.parameters(), strict=True):
            target.copy_(source.grad)
    return to_flax(copy)[0]
