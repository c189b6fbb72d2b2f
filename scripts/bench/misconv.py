"""MisConv2d against the convolution and ReLU it replaces.

    python scripts/bench/misconv.py [--batch 64] [--size 32] [--factors 4] [--threads 2] [--device cpu]

One row each for the eager and the compiled layer, without gradients and with a backward pass. A lower bound (floor)
is measured as well: every implementation needs L + 2 such convolutions (mean, noise, every factor) and one erf and
one exp per output. Exits with 1 if the layers differ from each other or the compiled one takes more than 10 times as
long as the plain convolution (without gradients).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from _timing import best, layer_options  # type: ignore[import-not-found]
from torch import Tensor, nn

from lacuna.data.masks import Square
from lacuna.drawing.text_table import text_table
from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA

AT_MOST = 10.0
FILTERS = 32


def density(batch: int, shape: tuple[int, int, int], rank: int) -> tuple[Tensor, MFA]:
    """Images (B,C,H,W) and a density of a missing square in each, pinned to the observed pixels."""
    x = torch.rand(batch, *shape)
    mask = Square(0.5)(torch.arange(batch), shape, seed=0, split="bench")
    mfa = MFA(
        torch.zeros(batch, 1),
        torch.rand(batch, 1, *shape),
        0.2 * torch.randn(batch, 1, rank, *shape),
        0.01 + 0.1 * torch.rand(batch, 1, *shape),
    )
    return x, mfa.pin(x, mask)


def functions(x: Tensor, mfa: MFA, conv: nn.Conv2d, layers: dict[str, MisConv2d]) -> dict[str, Callable[[], object]]:
    """The functions to measure, by name."""
    buffer = conv(x).detach()

    @torch.no_grad()
    def floor() -> None:
        for _ in range(mfa.rank + 2):
            conv(x)
        torch.erf(buffer, out=buffer)
        torch.exp(buffer, out=buffer)
        buffer.clamp_(-1, 1)  # avoids overflow; a vectorised pass, as fast as ReLU

    def forward(function: Callable[[], Tensor]) -> Callable[[], object]:
        return torch.no_grad()(function)

    def step(module: nn.Conv2d, function: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function().sum(), list(module.parameters()))

    timed: dict[str, Callable[[], object]] = {"floor": floor}
    timed["plain"] = forward(lambda: conv(x).relu())
    timed["plain, training step"] = step(conv, lambda: conv(x).relu())
    for name, layer in layers.items():
        timed[name] = forward(lambda layer=layer: layer(mfa))  # type: ignore[misc]
        timed[f"{name}, training step"] = step(layer, lambda layer=layer: layer(mfa))  # type: ignore[misc]
    return timed


def main() -> int:
    options = layer_options(__doc__ or "", turns=40)
    x, mfa = density(options.batch, (3, options.size, options.size), options.factors)
    x, mfa = x.to(options.device), mfa.to(options.device)
    conv = nn.Conv2d(3, FILTERS, 3, padding=1).to(options.device)
    layers = {"eager": MisConv2d.from_conv(conv), "compiled": MisConv2d.from_conv(conv, compiled=True)}
    with torch.no_grad():
        difference = (layers["compiled"](mfa) - layers["eager"](mfa)).abs().max().item()
    times = best(functions(x, mfa, conv, layers), options.turns)

    rows = []
    for name in layers:
        for part in ("", ", training step"):
            plain, ours = times[f"plain{part}"], times[name + part]
            row = {
                "MisConv2d": name + part,
                "conv + ReLU (ms)": f"{1e3 * plain:.2f}",
                "MisConv2d (ms)": f"{1e3 * ours:.2f}",
                "times slower": f"{ours / plain:.1f}",
                "times the floor": "" if part else f"{ours / times['floor']:.1f}",
            }
            rows.append(row)
    print(text_table(rows))
    floor = times["floor"]
    print(
        f"floor ({options.factors + 2} convolutions, one erf and one exp per output): {1e3 * floor:.2f} ms, "
        f"{floor / times['plain']:.1f} times the plain layer; largest difference of compiled and eager "
        f"{difference:.0e}; {options.device}, {torch.get_num_threads()} thread(s)"
    )
    return 0 if difference < 1e-5 and times["compiled"] <= AT_MOST * times["plain"] else 1


if __name__ == "__main__":
    sys.exit(main())
