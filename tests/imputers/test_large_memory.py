"""Fills of large images stay within a limit of memory; each in a process of its own, which says its largest size."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.linear import Linear
from lacuna.imputers.nearest import Nearest
from lacuna.runs.environment import tune_malloc

tune_malloc()
torch.set_num_threads(1)
name, side, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
imputer = {"linear": Linear, "nearest": Nearest, "harmonic": lambda: Harmonic(1), "biharmonic": Harmonic}[name]()

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10

def filled(side):
    image = torch.linspace(0.2, 0.8, side).expand(1, 1, side, side)
    if kind == "half":
        generator = torch.Generator().manual_seed(0)
        mask = torch.randint(0, 2, (1, 1, side, side), generator=generator, dtype=torch.uint8) > 0
    else:
        mask = ((torch.arange(side) + 16) % 32 >= 8).expand(1, 1, side, side)
    result = imputer.impute(image, mask)
    assert (result - image).abs().max() < (1.0 if name == "nearest" else 0.02)

filled(200)
before = megabytes()
filled(side)
print(before, megabytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "kind", "limit"),
    [
        ("linear", 1024, "half", 250),
        ("linear", 2048, "stripes", 500),
        ("nearest", 2048, "half", 220),
        ("harmonic", 2048, "half", 450),
        ("biharmonic", 2048, "stripes", 500),
    ],
)
def test_how_much_more_memory_a_large_image_takes(name: str, side: int, kind: str, limit: int) -> None:
    """Megabytes. With the whole image at once, 1024 x 1024 takes linear 620, and 2048 x 2048 takes harmonic 700."""
    before, after = run(name, side, kind)
    assert after - before < limit


@pytest.mark.slow
def test_a_picture_of_4096_by_4096_pixels_is_filled_within_two_gigabytes() -> None:
    assert run("biharmonic", 4096, "half")[1] < 2048


def run(*words: object) -> list[int]:
    """Largest megabytes of a process before and after the fill."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]
