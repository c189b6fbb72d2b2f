"""What the sub-folders of a user's folder mean: splits, classes, masks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lacuna.errors import LacunaError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of a split's folder or of its arrays, in lower case -> the split."""
_MASK_ENDING = re.compile(r"(?<=.)[\W_]*masks?$", re.IGNORECASE)
_IMAGES, _MASKS = ("image", "images", "img", "imgs"), ("mask", "masks")


def split_folders(root: Path, files: Sequence[Path]) -> dict[str, Path]:
    """The folders directly in ``root`` that are named like splits and hold any of ``files``: split -> folder.

    Raises:
        LacunaError: two folders of one split, or splits without training images.
    """
    found: dict[str, Path] = {}
    for name in sorted({path.relative_to(root).parts[0] for path in files if path.parent != root}):
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in found:
            raise LacunaError(f"{found[split]} and {root / name} are both {split} images: make them one folder.")
        found[split] = root / name
    if found and "train" not in found:
        named = " and ".join(folder.name for folder in found.values())
        raise LacunaError(
            f"{root} has a folder {named} but none named train: put the training images into {root / 'train'}, or "
            f"rename {named} if that is a class."
        )
    return found


def class_names(files: Sequence[Path], roots: Sequence[Path]) -> list[str | None]:
    """The class of every file: the first folder below the nearest of ``roots``; None directly in one of them."""
    names: list[str | None] = []
    for path in files:
        home = max((root for root in roots if path.is_relative_to(root)), key=lambda root: len(root.parts))
        parts = path.relative_to(home).parts
        names.append(parts[0] if len(parts) > 1 else None)
    return names


def refuse_mask_folders(root: Path, files: Sequence[Path], suffix: str) -> None:
    """Refuse a folder of masks beside the images' folder or below it: whether its white means observed is not known.

    Args:
        root: the user's folder.
        files: all image files, with the masks named by ``suffix``.
        suffix: of the masks that are understood.

    Raises:
        LacunaError: there is a folder named masks, and images of the same names beside it.
    """
    inside: dict[Path, set[str]] = defaultdict(set)
    for path in files:
        for folder in path.relative_to(root).parents:
            inside[root / folder].add(path.stem.removesuffix(suffix))
    for folder in sorted(inside):
        if folder == root or folder.name.lower() not in _MASKS:
            continue
        beside = {path.stem for path in files if path.parent == folder.parent}
        sisters = [other for other in inside if other.parent == folder.parent and other.name.lower() in _IMAGES]
        if sisters or inside[folder] & beside:
            raise LacunaError(
                f"{folder} looks like masks of the images beside it: name each mask like its image plus {suffix} and "
                "put it into the same folder (white = observed), or move the folder elsewhere."
            )


def is_mask(path: Path, suffix: str) -> bool:
    """Whether a file is named like a mask; capital letters make no difference."""
    return len(path.stem) >= len(suffix) and path.stem.lower().endswith(suffix.lower())


def refuse_other_masks(images: Sequence[Path], key: str) -> None:
    """Refuse images that are named like masks of others, but in another way than the suffix says.

    Args:
        images: files that are not named like masks.
        key: the name of the suffix in messages.

    Raises:
        LacunaError: there is one: ``a-mask.png`` beside ``a.png``.
    """
    stems = {path.with_suffix("") for path in images}
    for path in images:
        ending = _MASK_ENDING.search(path.stem)
        if ending is not None and path.with_name(path.stem[: ending.start()]) in stems:
            raise LacunaError(
                f"{path} looks like the mask of an image: set {key}={ending.group()} if the masks are named so, or "
                "rename it."
            )
