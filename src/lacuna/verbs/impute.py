"""The verb ``impute``: fill the holes of a user's own images with a trained density, flow or imputer."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from lacuna import files
from lacuna.data import hashing
from lacuna.data.sources.arrays import Arrays
from lacuna.data.sources.folder import Folder
from lacuna.errors import LacunaError
from lacuna.inference.trained_model import Completer, find_completer
from lacuna.runs.environment import set_up
from lacuna.runs.folder import RunFolder
from lacuna.tasks.common.models import Sizes

BATCH = 64
KEYS = {"path": "input", "mask_suffix": "mask_suffix", "layout": "layout"}
"""Arguments of the sources -> keys of this verb."""
Picture = tuple[Path, np.ndarray, np.ndarray]
"""What :meth:`Folder.pictures` gives."""
Filled = tuple[np.ndarray, np.ndarray | None, np.ndarray]
"""Completed images uint8 (B,C,H,W), standard deviations float32 (B,1,H,W) where they are known, further completions
uint8 (n,B,C,H,W)."""


class _InputArrays(Arrays):
    keys = KEYS


class _InputFolder(Folder):
    keys = KEYS


def main(config: dict[str, Any]) -> int:
    """Write completed images, their uncertainty and, if asked for, several completions."""
    for key in ("run", "input"):
        if not config[key]:
            raise LacunaError(f"{key} is empty: python impute.py run=digits-square-dmfa-s0 input=my_images/")
    target, samples = Path(config["to"]), config["samples"]
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise LacunaError(f"samples={samples} must be a whole number of at least 0.")
    if target.exists():
        raise LacunaError(f"to={target} exists already: choose another place, nothing is overwritten.")
    source = _source(config)
    set_up(config["trainer"]["threads"])
    cuda = torch.cuda.is_available() and config["trainer"]["accelerator"] in ("auto", "cuda", "gpu")
    device = torch.device("cuda" if cuda else "cpu")
    completer, sizes = find_completer(RunFolder.find(config["output"], str(config["run"])), device)
    filler = _Filler(completer, sizes, device, samples, config["seed"])
    with files.disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            if isinstance(source, Folder):
                count = _folder(source, filler, working)
            else:
                count = _arrays(source, filler, working)
            working.chmod(0o755)
            os.replace(working, target)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    print(f"{count} images completed in {target}")
    return 0


def _source(config: dict[str, Any]) -> Folder | Arrays:
    """The user's images.

    Raises:
        LacunaError: there are none, or their results would overwrite each other.
    """
    path = Path(config["input"])
    if not path.exists():
        raise LacunaError(f"input={path} does not exist.")
    if not path.is_dir():
        return _InputArrays(str(path), layout=config["layout"])
    folder = _InputFolder(str(path), mask_suffix=config["mask_suffix"])
    _check_names(folder, config["samples"])
    return folder


class _Filler:
    """Completes batches; observed bytes come back as they were."""

    def __init__(self, completer: Completer, sizes: Sizes, device: torch.device, samples: int, seed: int) -> None:
        self.completer, self.sizes, self.device, self.samples, self.seed = completer, sizes, device, samples, seed

    def check(self, shape: tuple[int, ...], what: object) -> None:
        """Refuse images (C, H, W) that the model does not know."""
        if shape != self.sizes.shape:
            given, trained = ("x".join(map(str, size)) for size in (shape, self.sizes.shape))
            raise LacunaError(
                f"{what} is {given} (channels, height, width), the model was trained on {trained}: resize the "
                "images, or train one on them."
            )

    @torch.no_grad()
    def __call__(self, images: np.ndarray, there: np.ndarray, names: Sequence[object]) -> Filled:
        """``names`` of the pictures make the noise of their samples, whatever else is in the batch."""
        mask, given = torch.from_numpy(there).to(self.device), torch.from_numpy(images).to(self.device)
        observed = (given.float() / 255).masked_fill(~mask, 0)
        completions = self.completer(observed, mask)
        deviation = completions.deviation
        spread = None if deviation is None else deviation.cpu().numpy()
        filled = np.where(there, images, _bytes(completions.mean))
        further = np.empty((self.samples, *images.shape), np.uint8)
        if self.samples:
            for row, name in enumerate(names):
                noise = torch.Generator(self.device).manual_seed(hashing.key("impute", self.seed, str(name)))
                drawn = _bytes(completions.draw(row, self.samples, noise))
                further[:, row] = np.where(there[row], images[row], drawn)
        return filled, spread, further


def _outputs(picture: Path, samples: int, uncertainty: bool = True) -> list[Path]:
    """Where the results of a picture go: completed, uncertainty (if it is known), samples."""
    ends = ("", *(["_uncertainty"] if uncertainty else []), *(f"_sample{number}" for number in range(1, samples + 1)))
    return [picture.with_name(f"{picture.stem}{end}.png") for end in ends]


def _check_names(source: Folder, samples: int) -> None:
    """Refuse pictures whose results would overwrite each other's."""
    owner: dict[Path, Path] = {}
    for picture in source.names:
        for output in _outputs(picture, samples):
            other = owner.setdefault(output, picture)
            if other != picture:
                raise LacunaError(
                    f"{source.path / other} and {source.path / picture} would both be written to {output}: rename one."
                )


def _folder(source: Folder, filler: _Filler, target: Path) -> int:
    console = Console(stderr=True)
    pictures = track(
        source.pictures(filler.sizes.shape[0]),
        "completing",
        total=len(source.names),
        console=console,
        disable=not console.is_terminal,
    )
    for batch in _batches(iter(pictures)):
        names = [name for name, _, _ in batch]
        for name, image, _ in batch:
            filler.check(image.shape, source.path / name)
        images, there = np.stack([image for _, image, _ in batch]), np.stack([mask for _, _, mask in batch])
        filled, spread, further = filler(images, there, [name.as_posix() for name in names])
        # half the range of a pixel is the largest standard deviation there is: white
        shades = [] if spread is None else [_bytes(torch.from_numpy(spread * 2))]
        for row, name in enumerate(names):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            results = [stack[row] for stack in (filled, *shades, *further)]
            for result, output in zip(results, _outputs(name, filler.samples, bool(shades)), strict=True):
                _save(result, target / output)
    return len(source.names)


def _batches(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    while batch := list(itertools.islice(pictures, BATCH)):
        yield batch


def _arrays(source: Arrays, filler: _Filler, target: Path) -> int:
    arrays = source.everything()
    n = len(arrays.images)
    filler.check(arrays.images.shape[1:], source.path)
    there = np.ones((n, 1, *arrays.images.shape[2:]), bool) if arrays.observed is None else arrays.observed
    slices = [slice(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]
    parts = [filler(arrays.images[rows], there[rows], range(rows.start, rows.stop)) for rows in slices]
    results: dict[str, Any] = {"images": np.concatenate([p[0] for p in parts]), "observed": there}
    spreads = [p[1] for p in parts if p[1] is not None]
    if spreads:
        results["uncertainty"] = np.concatenate(spreads)
    if filler.samples:
        results["samples"] = np.concatenate([p[2] for p in parts], 1)
    np.savez_compressed(target / f"{source.path.stem}.npz", **results)
    return n


def _bytes(image: torch.Tensor) -> np.ndarray:
    """[0, 1] to uint8; k / 255 comes back as k exactly."""
    levels: np.ndarray = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
