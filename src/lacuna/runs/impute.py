"""The verb ``impute``: fill the holes of a user's own images with a trained density."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from lacuna import files
from lacuna.data.sources.arrays import Arrays
from lacuna.data.sources.folder import Folder
from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.mean_of import DensityMean
from lacuna.runs.environment import set_up
from lacuna.runs.folder import RunFolder
from lacuna.runs.run import load
from lacuna.tasks.models import Sizes

BATCH = 64
Filled = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Completed images uint8 (B,C,H,W), standard deviations float32 (B,1,H,W), further completions uint8 (n,B,C,H,W)."""


def main(config: dict[str, Any]) -> int:
    """Write completed images, their uncertainty and, if asked for, several completions."""
    for key in ("run", "input"):
        if not config[key]:
            raise LacunaError(f"{key} is empty: python impute.py run=digits-square-dmfa-s0 input=my_images/")
    source, target = Path(config["input"]), Path(config["to"])
    if not source.exists():
        raise LacunaError(f"input={source} does not exist.")
    if target.exists():
        raise LacunaError(f"to={target} exists already: choose another place, nothing is overwritten.")
    set_up(config["trainer"]["threads"])
    density, sizes = find_density(RunFolder.find(config["output"], str(config["run"])))
    filler = _Filler(density, sizes, config["trainer"]["accelerator"], config["samples"], config["seed"])
    with files.disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            if source.is_dir():
                count = _folder(Folder(str(source), mask_suffix=config["mask_suffix"]), filler, working)
            else:
                count = _arrays(Arrays(str(source)), filler, working)
            working.chmod(0o755)
            os.replace(working, target)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    print(f"{count} images completed in {target}")
    return 0


def find_density(folder: RunFolder) -> tuple[Density, Sizes]:
    """The density of a finished run: its own, or the one it was built on.

    Raises:
        LacunaError: the run has none.
    """
    recipe = folder.recipe
    if recipe.task != "density":
        if "density" not in recipe.needs:
            raise LacunaError(f"{folder.path} has no density: train one with task=density and give that run.")
        return find_density(RunFolder(folder.path.parent / recipe.needs["density"].name))
    model = load(folder)
    assert isinstance(model, Density)
    return model, Sizes.of(files.read_json(folder.path / "model.json"))


class _Filler:
    """Completes batches; observed bytes come back as they were."""

    def __init__(self, density: Density, sizes: Sizes, accelerator: str, samples: int, seed: int) -> None:
        if samples < 0:
            raise LacunaError(f"samples={samples} must be 0 or more.")
        self.sizes, self.samples, self.seed = sizes, samples, seed
        cuda = torch.cuda.is_available() and accelerator in ("auto", "cuda", "gpu")
        self.device = torch.device("cuda" if cuda else "cpu")
        self.imputer = DensityMean(density).to(self.device)

    @torch.no_grad()
    def __call__(self, images: np.ndarray, there: np.ndarray, what: str) -> Filled:
        if images.shape[1:] != self.sizes.shape:
            given, trained = ("x".join(map(str, shape)) for shape in (images.shape[1:], self.sizes.shape))
            raise LacunaError(
                f"{what} is {given} (channels, height, width), the density was trained on {trained}: resize the "
                "images, or train a density on them."
            )
        torch.manual_seed(self.seed)
        mask = torch.from_numpy(there).to(self.device)
        observed = torch.from_numpy(images).to(self.device).float() / 255
        observed = observed.masked_fill(~mask, 0)
        mfa = self.imputer.density(observed, mask).pin(observed, mask)
        spread = mfa.variance().mean(1, keepdim=True).sqrt().cpu().numpy()
        draws = [self.imputer.sample(observed, mask, 1)[0] for _ in range(self.samples)]
        filled, *further = (_bytes(image) for image in [self.imputer.impute(observed, mask), *draws])
        shape = (0, *images.shape)
        return filled, spread, np.stack(further) if further else np.empty(shape, np.uint8)


def _folder(source: Folder, filler: _Filler, target: Path) -> int:
    count = 0
    pictures = source.pictures(filler.sizes.shape[0])
    console = Console(stderr=True)
    for name, image, there in track(pictures, "completing", console=console, disable=not console.is_terminal):
        filled, spread, further = filler(image[None], there[None], str(source.path / name))
        home = (target / name).parent
        home.mkdir(parents=True, exist_ok=True)
        _save(filled[0], home / f"{name.stem}.png")
        # half the range of a pixel is the largest standard deviation there is: white
        _save(_bytes(torch.from_numpy(spread[0] * 2)), home / f"{name.stem}_uncertainty.png")
        for number, draw in enumerate(further[:, 0], start=1):
            _save(draw, home / f"{name.stem}_sample{number}.png")
        count += 1
    return count


def _arrays(source: Arrays, filler: _Filler, target: Path) -> int:
    arrays = source.everything()
    there = np.ones((len(arrays.images), 1, *arrays.images.shape[2:]), bool)
    there = there if arrays.observed is None else arrays.observed
    parts = [filler(arrays.images[rows], there[rows], str(source.path)) for rows in _slices(len(arrays.images))]
    filled, spread = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    results = {"images": filled, "uncertainty": spread, "observed": there}
    if filler.samples:
        results["samples"] = np.concatenate([p[2] for p in parts], 1)
    np.savez_compressed(target / f"{source.path.stem}.npz", allow_pickle=False, **results)
    return len(filled)


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, n, BATCH))


def _bytes(image: torch.Tensor) -> np.ndarray:
    """[0, 1] to uint8; k / 255 comes back as k exactly."""
    levels: np.ndarray = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
