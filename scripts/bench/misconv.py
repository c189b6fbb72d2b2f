"""Speed of MisConv2d against the convolution and ReLU that it replaces.

    python scripts/bench/misconv.py [--batch 64] [--size 32] [--factors 4] [--threads 2] [--device cpu]

Prints a row each for the eager and the compiled layer, with the exact formula and that of the authors' code, without
gradients and with a backward pass. A lower bound is measured, too: every implementation needs at least l + 2 such
convolutions (mean, noise, l factors; the authors' formula one more) and one erf and one exp per output. With the
authors' repository (mprzewie/dmfa_inpainting) on PYTHONPATH, their layer is measured in turn with them. Exits with 1 if
the layers differ from each other, the compiled exact one takes more than 10 times as long as the plain convolution
(without gradients), or a layer with the authors' formula is slower than theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best, layer_options  # type: ignore[import-not-found]
from torch import Tensor, nn

from lacuna.data.masks import Square
from lacuna.drawing.text_table import text_table
from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA

AT_MOST = 10.0
FILTERS = 32
THEIRS = "the authors'"


def density(batch: int, shape: tuple[int, int, int], rank: int) -> tuple[Tensor, Tensor, MFA]:
    """Images (B,C,H,W), masks of missing squares (B,1,H,W), and a density."""
    x = torch.rand(batch, *shape)
    mask = Square(0.5)(torch.arange(batch), shape, seed=0, split="bench")
    mfa = MFA(
        torch.zeros(batch, 1),
        torch.rand(batch, 1, *shape),
        0.2 * torch.randn(batch, 1, rank, *shape),
        0.01 + 0.1 * torch.rand(batch, 1, *shape),
    )
    return x, mask, mfa


Call = Callable[[], Tensor]


def authors(conv: nn.Conv2d, x: Tensor, mask: Tensor, mfa: MFA) -> Call | None:
    """The layer of the authors' code, if it can be imported."""
    try:
        from inpainting.custom_layers import ConVar  # type: ignore[import-not-found]
    except ImportError:
        print("the authors' repository is not on PYTHONPATH: their layer is left out.")
        return None
    layer, known = ConVar(conv), mask.expand_as(x).to(x.dtype)
    return lambda: layer(x, known, mfa.weights, mfa.mean, mfa.factors, mfa.noise)


def floor(x: Tensor, rank: int, conv: nn.Conv2d) -> Callable[[], object]:
    """What every implementation has to do."""
    buffer = conv(x).detach()

    @torch.no_grad()
    def least() -> None:
        for _ in range(rank + 2):
            conv(x)
        torch.erf(buffer, out=buffer)
        torch.exp(buffer, out=buffer)
        buffer.clamp_(-1, 1)  # keeps the numbers finite; a vectorised pass like ReLU

    return least


def timed(call: Call, conv: nn.Conv2d) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call without gradients, and one with a backward pass to the convolution's parameters."""
    return torch.no_grad()(call), lambda: torch.autograd.grad(call().sum(), list(conv.parameters()))


def main() -> int:
    options = layer_options(__doc__ or "", turns=40)
    x, mask, mfa = density(options.batch, (3, options.size, options.size), options.factors)
    x, mask, mfa = x.to(options.device), mask.to(options.device), mfa.to(options.device)
    conv = nn.Conv2d(3, FILTERS, 3, padding=1).to(options.device)
    layers: dict[str, Call] = {}
    for formula in ("exact", "authors"):
        for name in ("eager", "compiled"):
            layer = MisConv2d.from_conv(conv, formula=formula, compiled=name == "compiled")
            layers[f"{formula}, {name}"] = partial(layer, mfa.pin(x, mask) if formula == "exact" else mfa, x, mask)
    theirs = authors(conv, x, mask, mfa)
    calls = {"plain": lambda: conv(x).relu(), **layers} | ({THEIRS: theirs} if theirs else {})

    with torch.no_grad():
        found = {name: call() for name, call in calls.items()}
    pairs = [("exact, compiled", "exact, eager"), ("authors, compiled", "authors, eager")]
    pairs += [("authors, eager", THEIRS)] if theirs else []
    difference = max((found[one] - found[other]).abs().max().item() for one, other in pairs)
    both = {name: timed(call, conv) for name, call in calls.items()}
    parts = ("", ", training step")
    functions = {f"{name}{parts[i]}": both[name][i] for i in (0, 1) for name in both}
    times = best({"floor": floor(x, mfa.rank, conv), **functions}, options.turns)

    rows = []
    for part in parts:
        for name in list(calls)[1:]:
            plain, ours = times[f"plain{part}"], times[name + part]
            row = {
                "MisConv2d": name + part,
                "time (ms)": f"{1e3 * ours:.2f}",
                "times conv + ReLU": f"{ours / plain:.1f}",
                "times the floor": "" if part else f"{ours / times['floor']:.1f}",
            }
            if theirs:
                row["times the authors'"] = f"{ours / times[THEIRS + part]:.2f}"
            rows.append(row)
    for name in calls:
        for part in parts if theirs and name.startswith("authors,") else ():
            report(f"MisConv, {name}{part}", THEIRS, times[name + part], times[THEIRS + part], "s", 1.0, show=False)
    for part in parts:
        work, plain = f"MisConv, exact, compiled{part}", times[f"plain{part}"]
        most = None if part else AT_MOST
        report(work, "conv + ReLU", times[f"exact, compiled{part}"], plain, "s", most, show=False)
    print(text_table(rows))
    print(
        f"conv + ReLU: {1e3 * times['plain']:.2f} ms, training step {1e3 * times['plain, training step']:.2f} ms; floor"
        f" ({options.factors + 2} convolutions, one erf and one exp per output): {1e3 * times['floor']:.2f} ms;"
        f" largest difference {difference:.0e}; {options.device}, {torch.get_num_threads()} thread(s)"
    )
    good = difference < 1e-5 and times["exact, compiled"] <= AT_MOST * times["plain"]
    ours_and_parts = [(f"authors, {name}{part}", THEIRS + part) for name in ("eager", "compiled") for part in parts]
    slower = theirs and any(times[ours] > times[other] for ours, other in ours_and_parts)
    return 0 if good and not slower else 1


if __name__ == "__main__":
    sys.exit(main())
