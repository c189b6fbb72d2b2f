"""Interpolation within an image: lacuna against scipy's griddata (linear) and scikit-image's inpaint_biharmonic.

    python scripts/bench/fills.py [--sizes 28,32x3,256,1024] [--images 100] [--turns 5] [--threads 1]

Smooth random images with 60 or 90 % of the pixels missing at random, or a centre square of half the side. From a side
of 256 pixels on with 50 %, the square, or stripes; and harmonic inpainting beside scipy's ``spsolve``, too. Prints
milliseconds per image and their ratio, below 1 where lacuna is faster. Of the linear one it prints the RMSE of both:
where four pixels lie on a circle they may divide their quadrangle differently. Without scikit-image that comparison is
left out. Exits with 1 if biharmonic values differ or lacuna is slower than it should be.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]
from numpy.typing import NDArray
from scipy.interpolate import griddata
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from lacuna.data.masks import Bernoulli
from lacuna.drawing.text_table import text_table
from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.linear import Linear
from lacuna.runs.environment import tune_malloc

EXPECTED = 1.2
"""Times of the peer's time that lacuna may need; on a quiet machine 1 is not reached."""

HARMONIC = 2
"""The same for harmonic inpainting against ``spsolve``."""

LARGE = 1000
"""Side of images from which each side has one turn: peers take half a minute."""

Array = NDArray[np.float64]
Inpaint = Callable[..., Array]


def smooth(n: int, channels: int, size: int) -> Tensor:
    """Random images (n,channels,size,size) in [0, 1], float64, with details of a few pixels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, size // 4, size // 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


def masks(n: int, size: int, kind: str) -> Tensor:
    """(n,1,size,size): missing at random with probability ``kind``, a centre "square", or "stripes" of 8 columns."""
    if kind != "square" and kind != "stripes":
        return Bernoulli(float(kind))(torch.arange(n), (1, size, size), seed=0, split="test")
    if kind == "stripes":
        return (torch.arange(size) % 32 < 24).expand(n, 1, size, size)
    mask = torch.ones(n, 1, size, size, dtype=torch.bool)
    mask[..., size // 4 : size - size // 4, size // 4 : size - size // 4] = False
    return mask


def griddata_of(image: Array, seen: NDArray[np.bool_]) -> Array:
    """The image (C,H,W) filled by scipy; nan outside the convex hull of the pixels ``seen`` (H,W)."""
    filled = image.copy()
    filled[:, ~seen] = griddata(np.argwhere(seen), image[:, seen].T, np.argwhere(~seen), "linear").T
    return filled


def harmonic_of(image: Array, seen: NDArray[np.bool_]) -> Array:
    """The image (C,H,W) filled by one sparse system for all missing pixels, as scipy solves it."""
    pixel = np.arange(seen.size).reshape(seen.shape)
    pairs = [(pixel[1:], pixel[:-1]), (pixel[:, 1:], pixel[:, :-1])]
    one, other = (np.concatenate([*(pair[i].ravel() for pair in pairs)]) for i in (0, 1))
    edges = np.ones(2 * len(one)), (np.concatenate([one, other]), np.concatenate([other, one]))
    adjacent = csr_array(edges, shape=(seen.size, seen.size))
    rows = (diags_array(adjacent.sum(1)) - adjacent).tocsr()[~seen.ravel()]
    there, flat = seen.ravel(), image.reshape(len(image), -1)
    filled = image.copy()
    filled[:, ~seen] = spsolve(rows[:, ~there].tocsc(), -(rows[:, there] @ flat[:, there].T)).T.reshape(len(image), -1)
    return filled


def measured_harmonic(images: Tensor, mask: Tensor, kind: str, turns: int) -> dict[str, object]:
    """One row of the second table."""
    arrays, harmonic = list(zip(images.numpy(), mask[:, 0].numpy(), strict=True)), Harmonic(1)
    times = best(
        {
            "harmonic": lambda: harmonic.impute(images, mask),
            "spsolve": lambda: [harmonic_of(image, seen) for image, seen in arrays],
        },
        turns,
    )
    ours, theirs = (1e3 * times[name] / len(images) for name in ("harmonic", "spsolve"))
    size = f"{images.shape[2]} x {images.shape[3]} x {images.shape[1]}, {kind} missing"
    report(f"harmonic, {size}", "scipy.spsolve", ours, theirs, "ms", HARMONIC, show=False)
    peer = np.stack([harmonic_of(image, seen) for image, seen in arrays])
    return {
        "image": f"{images.shape[1]}x{images.shape[2]}x{images.shape[3]}, {kind}",
        "harmonic (ms)": round(ours, 3),
        "spsolve (ms)": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
        "difference": f"{np.abs(harmonic.impute(images, mask).numpy() - peer).max():.0e}",
    }


def inpaint_biharmonic() -> Inpaint | None:
    """scikit-image's function, if that is installed."""
    try:
        function: Inpaint = importlib.import_module("skimage.restoration").inpaint_biharmonic
    except ImportError:
        return None
    return function


def measured(images: Tensor, mask: Tensor, kind: str, turns: int, inpaint: Inpaint | None) -> dict[str, object]:
    """One row of the table. The peers fill the first five images only."""
    arrays = list(zip(images[:5].numpy(), mask[:5, 0].numpy(), strict=True))
    linear, biharmonic = Linear(), Harmonic(2)
    functions: dict[str, Callable[[], object]] = {
        "linear": lambda: linear.impute(images, mask),
        "griddata": lambda: [griddata_of(image, seen) for image, seen in arrays],
        "biharmonic": lambda: biharmonic.impute(images, mask),
    }
    if inpaint is not None:
        functions["scikit-image"] = lambda: [inpaint(image, ~seen, channel_axis=0) for image, seen in arrays]
    times = best(functions, turns)
    each = {
        name: 1e3 * time / (len(images) if name in ("linear", "biharmonic") else len(arrays))
        for name, time in times.items()
    }
    filled = linear.impute(images[:5], mask[:5]).numpy()
    peer = np.stack([griddata_of(image, seen) for image, seen in arrays])
    both = ~np.isnan(peer) & ~mask[:5].numpy()
    error = [((one - images[:5].numpy())[both] ** 2).mean() ** 0.5 for one in (filled, peer)]
    row: dict[str, object] = {
        "image": f"{images.shape[1]}x{images.shape[2]}x{images.shape[3]}, {kind}",
        "linear (ms)": round(each["linear"], 3),
        "griddata (ms)": round(each["griddata"], 3),
        "ratio": round(each["linear"] / each["griddata"], 3),
        "RMSE": f"{error[0]:.4f}, {error[1]:.4f}",
        "biharmonic (ms)": round(each["biharmonic"], 3),
    }
    size = f"{images.shape[2]} x {images.shape[3]} x {images.shape[1]}, {kind} missing"
    report(f"linear, {size}", "scipy.griddata", each["linear"], each["griddata"], "ms", EXPECTED, show=False)
    if inpaint is None:
        return row
    report(f"biharmonic, {size}", "scikit-image", each["biharmonic"], each["scikit-image"], "ms", EXPECTED, show=False)
    found = biharmonic.impute(images[:5], mask[:5]).numpy()
    theirs = np.stack([inpaint(image, ~seen, channel_axis=0) for image, seen in arrays])
    # scikit-image clips to the range of the observed values, of each channel
    least, most = (np.array([[fold(c[s]) for c in image] for image, s in arrays]) for fold in (np.min, np.max))
    found = found.clip(least[..., None, None], most[..., None, None])
    return {
        **row,
        "scikit-image (ms)": round(each["scikit-image"], 3),
        "ratio ": round(each["biharmonic"] / each["scikit-image"], 3),
        "difference": f"{np.abs(found - theirs).max():.0e}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="28,32x3,256,1024", help="side, or side and channels, of the images")
    parser.add_argument("--images", type=int, default=100, help="of 32 x 32 pixels; fewer larger ones")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    inpaint = inpaint_biharmonic()
    rows, harmonic = [], []
    for size in options.sizes.split(","):
        side, channels = (*map(int, size.split("x")), 1)[:2]
        n = max(1, options.images * 32**2 // max(side, 32) ** 2)
        turns = options.turns if side < LARGE else 1
        for kind in ("0.6", "0.9", "square") if side < 256 else ("0.5", "square", "stripes"):
            images, mask = smooth(n, channels, side), masks(n, side, kind)
            rows.append(measured(images, mask, kind, turns, inpaint))
            if side >= 256:
                harmonic.append(measured_harmonic(images[:2], mask[:2], kind, turns))
    print(text_table(rows, digits=3))
    if harmonic:
        print(text_table(harmonic, digits=3))
    print(f"cpu, {torch.get_num_threads()} thread(s)")
    if inpaint is None:
        print("scikit-image is not installed: biharmonic inpainting is not compared.")
    slow = [row for row in rows if max(float(str(row[key])) for key in ("ratio", "ratio ") if key in row) > EXPECTED]
    slow += [row for row in harmonic if float(str(row["ratio"])) > HARMONIC]
    wrong = [row for row in rows + harmonic if float(str(row.get("difference", 0))) > 1e-5]
    return 1 if slow or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
