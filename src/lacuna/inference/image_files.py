"""A user's own images, read from a folder or a NumPy file, and their imputations, written beside each other."""

from __future__ import annotations

import itertools
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
from lacuna.errors import LacunaError
from lacuna.inference.batches import BatchImputer, to_bytes

BATCH = 64
"""Images a step."""
KEYS = {"path": "input", "mask_suffix": "mask_suffix", "layout": "layout"}
"""Arguments of the sources -> the keys of the verb ``impute`` that their messages name."""
Picture = tuple[Path, np.ndarray, np.ndarray]
"""What :meth:`Folder.pictures` gives: name, image, mask."""


class _InputArrays(Arrays):
    keys = KEYS


class _InputFolder(Folder):
    keys = KEYS


def open_images(path: Path, mask_suffix: str, layout: str, samples: int) -> Folder | Arrays:
    """The images to impute.

    Args:
        path: a folder of pictures, or a ``.npy`` or ``.npz`` file.
        mask_suffix: of a picture's mask in a folder.
        layout: where the channels of an array's images are: ``auto``, ``NHWC`` or ``NCHW``.
        samples: how many further imputations of each picture will be written.

    Raises:
        LacunaError: there are none, or two pictures' results would have the same name.
    """
    if not path.exists():
        raise LacunaError(f"input={path} does not exist.")
    if not path.is_dir():
        return _InputArrays(str(path), layout=layout)
    folder = _InputFolder(str(path), mask_suffix=mask_suffix)
    _check_names(folder, samples)
    return folder


def impute_images(source: Folder | Arrays, imputer: BatchImputer, target: Path) -> int:
    """Impute all images and write the results into a new folder, whole or not at all.

    Args:
        source: from :func:`open_images`.
        imputer: the trained model.
        target: the folder; must not exist.

    Returns:
        The number of images.

    Raises:
        LacunaError: images of another size than the model's, or the folder cannot be written.
    """
    with files.disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            if isinstance(source, Folder):
                count = _impute_folder(source, imputer, temporary)
            else:
                count = _impute_arrays(source, imputer, temporary)
            temporary.chmod(0o755)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return count


def _impute_folder(source: Folder, imputer: BatchImputer, target: Path) -> int:
    console = Console(stderr=True)
    pictures = track(
        source.pictures(imputer.sizes.shape[0]),
        "imputing",
        total=len(source.names),
        console=console,
        disable=not console.is_terminal,
    )
    for batch in _batches(iter(pictures)):
        for name, image, _ in batch:
            imputer.check(image.shape, source.path / name)
        names = [name for name, _, _ in batch]
        images, observed = np.stack([image for _, image, _ in batch]), np.stack([mask for _, _, mask in batch])
        imputed = imputer(images, observed, [name.as_posix() for name in names])
        stacks = [imputed.images, *imputed.samples]
        if imputed.deviation is not None:
            # white = 0.5, the largest standard deviation that values in [0, 1] can have
            stacks.insert(1, to_bytes(torch.from_numpy(imputed.deviation * 2)))
        for row, name in enumerate(names):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            outputs = _outputs(name, imputer.samples, imputed.deviation is not None)
            for stack, output in zip(stacks, outputs, strict=True):
                _save(stack[row], target / output)
    return len(source.names)


def _impute_arrays(source: Arrays, imputer: BatchImputer, target: Path) -> int:
    arrays = source.everything()
    n = len(arrays.images)
    imputer.check(arrays.images.shape[1:], source.path)
    observed = np.ones((n, 1, *arrays.images.shape[2:]), bool) if arrays.observed is None else arrays.observed
    slices = [slice(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]
    imputed = [imputer(arrays.images[rows], observed[rows], range(rows.start, rows.stop)) for rows in slices]
    results: dict[str, Any] = {"images": np.concatenate([batch.images for batch in imputed]), "observed": observed}
    deviations = [batch.deviation for batch in imputed if batch.deviation is not None]
    if deviations:
        results["uncertainty"] = np.concatenate(deviations)
    if imputer.samples:
        results["samples"] = np.concatenate([batch.samples for batch in imputed], 1)
    np.savez_compressed(target / f"{source.path.stem}.npz", **results)
    return n


def _batches(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    while batch := list(itertools.islice(pictures, BATCH)):
        yield batch


def _outputs(picture: Path, samples: int, uncertainty: bool = True) -> list[Path]:
    """Files of a picture's results: the imputation, its uncertainty if that is known, samples."""
    endings = ["", *(["_uncertainty"] if uncertainty else []), *(f"_sample{number + 1}" for number in range(samples))]
    return [picture.with_name(f"{picture.stem}{ending}.png") for ending in endings]


def _check_names(source: Folder, samples: int) -> None:
    """Refuse pictures whose results would overwrite each other."""
    owner: dict[Path, Path] = {}
    for picture in source.names:
        for output in _outputs(picture, samples):
            other = owner.setdefault(output, picture)
            if other != picture:
                raise LacunaError(
                    f"{source.path / other} and {source.path / picture} would both be written to {output}: rename one."
                )


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
