"""The images of a user's ``.npy`` or ``.npz`` file, in its own type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lacuna.data.sources.depth import Scale, scale_of
from lacuna.errors import LacunaError

SPLITS = ("", "train_", "validation_", "val_", "test_")


@dataclass(frozen=True)
class Stack:
    """Images of one name.

    Args:
        prefix: of the name: empty, or ``test_`` and so on.
        values: (N,C,H,W) in the file's own type.
        observed: bool (N,1,H,W) or (N,C,H,W).
        scale: of the values.
    """

    prefix: str
    values: np.ndarray
    observed: np.ndarray
    scale: Scale


def read_stacks(
    path: Path, layout: str, value_range: Sequence[float] | None = None
) -> tuple[list[Stack], tuple[str, ...]]:
    """The images of a file, and notes on what was left out.

    Args:
        path: of the file: ``images`` with ``observed``, also with the prefix ``test_`` and so on.
        layout: where the channels of 4-dimensional images are: ``auto``, ``NHWC`` or ``NCHW``.
        value_range: (low, high) of the values; None: as the type has it.

    Raises:
        LacunaError: it cannot be read, or what it holds is no images.
    """
    if layout not in ("auto", "NHWC", "NCHW"):
        raise LacunaError(f"layout={layout} must be auto, NHWC or NCHW.")
    arrays = _loaded(path)
    left_out = [name for name in arrays if name in {f"{prefix}labels" for prefix in SPLITS}]
    stacks = []
    for prefix in SPLITS:
        if f"{prefix}images" in arrays:
            stacks.append(_stack(path, prefix, arrays, layout, value_range))
    if not stacks:
        raise LacunaError(f"{path} holds {sorted(arrays)}: it needs 'images' and may have 'observed'.")
    known = {f"{s.prefix}{kind}" for s in stacks for kind in ("images", "observed", "mask", "labels")}
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise LacunaError(
            f"{path} holds {', '.join(unknown)}, which is not known here: images, observed (or mask) and labels are, "
            "also with the prefix train_, validation_ or test_: rename or remove it."
        )
    return stacks, ("labels are not written again",) if left_out else ()


def _stack(
    path: Path, prefix: str, arrays: dict[str, np.ndarray], layout: str, value_range: Sequence[float] | None
) -> Stack:
    what = f"'{prefix}images' of {path}"
    values = _channels_first(arrays[f"{prefix}images"], what, layout)
    masks = [arrays[name] for name in (f"{prefix}observed", f"{prefix}mask") if name in arrays]
    if len(masks) > 1:
        raise LacunaError(f"{path} has {prefix}observed and {prefix}mask: leave one, True = observed.")
    observed = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for mask in masks:
        given = _as_mask(mask, what)
        if given.shape == arrays[f"{prefix}images"].shape:
            given = _channels_first(given, what, layout)
        elif given.shape == (len(values), *values.shape[2:]):
            given = given[:, None]
        elif given.shape != (len(values), 1, *values.shape[2:]):
            if given.shape != (len(values), *values.shape[2:], 1):
                raise LacunaError(
                    f"The masks of {what} have shape {mask.shape}, the images {values.shape} (N, C, H, W)."
                )
            given = given.transpose(0, 3, 1, 2)
        observed = observed & given
    if (observed == observed[:, :1]).all():
        observed = np.ascontiguousarray(observed[:, :1])
    return Stack(prefix, values, observed, scale_of(values, observed, what, value_range))


def _as_mask(mask: np.ndarray, what: str) -> np.ndarray:
    """A mask as bool, True = observed; NaN is missing, as everywhere."""
    if mask.dtype.kind not in "biuf":
        raise LacunaError(f"The masks of {what} hold {mask.dtype} values: True, 1 or 255 = observed, 0 = missing.")
    values = np.nan_to_num(mask, nan=0.0) if mask.dtype.kind == "f" else mask
    levels = set(np.unique(values).tolist())
    if not (levels <= {0, 1} or levels <= {0, 255}):
        some = ", ".join(f"{level:g}" for level in sorted(levels)[:5])
        raise LacunaError(f"The masks of {what} hold {some}, ...: True, 1 or 255 = observed, 0 or NaN = missing.")
    given: np.ndarray = values.astype(bool)
    return given


def _channels_first(images: np.ndarray, what: str, layout: str) -> np.ndarray:
    """(N,H,W), (N,H,W,C) or (N,C,H,W) -> (N,C,H,W) in the machine's order of bytes."""
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    if images.ndim != 4:
        raise LacunaError(f"The {what} have shape {images.shape}: give (N, H, W), (N, H, W, C) or (N, C, H, W).")
    first = layout != "NHWC" and images.shape[1] in (1, 3)
    last = layout != "NCHW" and images.shape[3] in (1, 3)
    if first and last:
        raise LacunaError(f"The {what} have shape {images.shape}: set layout to NHWC or NCHW.")
    if not first and not last:
        where = "" if layout == "auto" else f" where layout={layout} has the channels"
        raise LacunaError(
            f"The {what} have shape {images.shape}: there must be 1 or 3 channels{where} (mark transparent pixels as "
            "missing with 'observed')."
        )
    return np.ascontiguousarray(images if first else images.transpose(0, 3, 1, 2))


def _loaded(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except Exception as error:  # numpy and zipfile raise many kinds of errors for damaged files
        reason = str(error).partition(". ")[0]  # numpy's next sentence advises to allow pickles
        raise LacunaError(f"{path} cannot be read as .npy or .npz without pickled objects ({reason}).") from error
