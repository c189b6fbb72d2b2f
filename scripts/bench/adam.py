"""The optimiser's step of DMFA on MNIST, 117 million weights, against the memory's bandwidth.

    python scripts/bench/adam.py [--weights 117000000] [--threads 2] [--turns 5]

Adam reads weights, gradients and two moments, and writes all but the gradients: 28 bytes a weight. The bandwidth is
measured in the same process, by adding two arrays into a third (12 bytes an element).
"""

from __future__ import annotations

import argparse
import sys

from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=int, default=117_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    import torch

    from lacuna.runs.environment import set_up
    from lacuna.tasks.common.optimizers import Adam

    set_up(options.threads)
    weight = torch.nn.Parameter(torch.zeros(options.weights))
    weight.grad = torch.full_like(weight, 1e-3)
    fused, plain = Adam([weight], lr=1e-3), torch.optim.Adam([weight], lr=1e-3)
    a, b, c = (torch.zeros(options.weights) for _ in range(3))
    # torch's own default makes several passes
    seconds = best(
        {"add": lambda: torch.add(a, b, out=c), "fused": fused.step, "default": plain.step}, turns=options.turns
    )
    bandwidth = 12 * options.weights / seconds["add"]
    work = f"Adam over {options.weights / 1e6:.0f} M weights, {options.threads} threads"
    floor = 28 * options.weights / bandwidth
    report(work, f"memory at {bandwidth / 1e9:.1f} GB/s", 1e3 * seconds["fused"], 1e3 * floor, "ms")
    report(work, "torch's Adam, not fused", 1e3 * seconds["fused"], 1e3 * seconds["default"], "ms", 1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
