"""Errors and similarities of images on a given region.

Every function takes ``image`` and ``truth`` (B,C,H,W) in [0, 1] and ``where``, a bool region (B,1,H,W) or (B,C,H,W)
(``None`` = everything). Values outside the region are never read, so a NaN there has no effect. An image with an empty
region has no value: it is NaN in per-image results and left out of means over images. If the region is empty in all
images, LacunaError is raised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lacuna.errors import LacunaError

# A perfect image has an infinite PSNR; in a mean over images it counts as this many dB (a squared error of 1e-10).
PSNR_CAP = 100.0
SIMILARITIES = {"ssim": None, "ssim_range2": 2.0}
"""Names of structural similarities -> data range; None: the data range of the other metrics.

2 was scikit-image's default for floats (-1 to 1). MisConv's tables 4 and 7 use it for images in [0, 1], where it makes
the constants against division by zero four times as large, and nearly all values larger.
"""


def mse(image: Tensor, truth: Tensor, where: Tensor | None = None, *, per_image: bool = False) -> Tensor:
    """Mean squared error: pooled over all values of the region (a scalar), or one per image (B,).

    Raises:
        LacunaError: shapes do not fit, or the region is empty in all images.
    """
    squares, count = _squares(image, truth, where)
    _refuse_empty(count)
    return squares / count if per_image else squares.sum() / count.sum()


def rmse(image: Tensor, truth: Tensor, where: Tensor | None = None, *, per_image: bool = False) -> Tensor:
    """Root of :func:`mse`. The papers' RMSE is the pooled one, not a mean of per-image roots.

    Raises:
        LacunaError: as :func:`mse`.
    """
    return mse(image, truth, where, per_image=per_image).sqrt()


def psnr(
    image: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    data_range: float = 1.0,
    per_image: bool = False,
) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(data_range² / mse) in dB; the mean over images unless ``per_image``.

    An image without any error has ``inf`` per image and counts as :data:`PSNR_CAP` dB in the mean.

    Raises:
        LacunaError: as :func:`mse`.
    """
    squares, count = _squares(image, truth, where)
    _refuse_empty(count)
    values = _psnr(squares / count, data_range)
    return values if per_image else values[count > 0].clamp(max=PSNR_CAP).mean()


def ssim(
    image: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    truth_mask: Tensor | None = None,
    window: str = "uniform",
    data_range: float = 1.0,
    per_image: bool = False,
) -> Tensor:
    """Structural similarity (Wang et al. 2004), channel by channel; the mean over images unless ``per_image``.

    Windows lie inside the image; ``where`` selects window *centres*. Windows that contain a pixel without truth
    (``truth_mask`` False) are left out.

    Args:
        image: (B,C,H,W) in [0, 1].
        truth: (B,C,H,W) in [0, 1].
        where: bool region of window centres, or None.
        truth_mask: bool, True where there is a truth, or None for everywhere.
        window: ``uniform``: 7x7, sample covariance (the default of skimage, which the papers use);
            ``gaussian``: 11x11, sigma 1.5, population covariance (Wang's and torchmetrics' default).
        data_range: 1 is correct for [0, 1]; the tables of the MisConv paper use skimage's former default for floats, 2.
        per_image: (B,) values instead of their mean; NaN where no window is left.

    Raises:
        LacunaError: images smaller than the window, unknown window, shapes that do not fit, no window left at all.
    """
    (similarity,), counted = _ssim_maps(image, truth, where, truth_mask, window, [data_range])
    count = counted.flatten(1).sum(1)
    _refuse_empty(count)
    values = torch.where(counted, similarity, 0.0).flatten(1).sum(1) / count
    return values if per_image else values[count > 0].mean()


class MaskedMetrics:
    """Accumulates the metrics of one region over batches, in float64 on the device, without synchronising it.

    Args:
        names: any of ``mse``, ``rmse`` (both pooled over all values), ``psnr``, ``ssim``, ``ssim_range2`` (means over
            images; see :data:`SIMILARITIES`).
        window: of :func:`ssim`.
        data_range: of ``psnr`` and ``ssim``.

    Raises:
        LacunaError: an unknown metric.
    """

    NAMES = ("mse", "rmse", "psnr", *SIMILARITIES)

    def __init__(self, names: Sequence[str] = NAMES, *, window: str = "uniform", data_range: float = 1.0) -> None:
        unknown = [name for name in names if name not in self.NAMES]
        if unknown:
            raise LacunaError(f"Unknown metric {unknown[0]!r}: choose from {', '.join(self.NAMES)}.")
        self.names = tuple(names)
        self.window = window
        self.data_range = data_range
        self._ranges = {name: SIMILARITIES[name] or data_range for name in names if name in SIMILARITIES}
        self._sums: Tensor | None = None

    @torch.no_grad()
    def update(
        self, image: Tensor, truth: Tensor, where: Tensor | None = None, truth_mask: Tensor | None = None
    ) -> None:
        """Add a batch. ``where``: region to evaluate; ``truth_mask``: True where a truth exists (bool; None = all)."""
        region = where if truth_mask is None else truth_mask if where is None else where & truth_mask
        squares, count = _squares(image, truth, region)
        counted = count > 0
        decibel = torch.where(counted, _psnr(squares / count, self.data_range).clamp(max=PSNR_CAP), 0.0)
        perfect = counted & (squares == 0)
        parts = [squares.sum(), count.sum(), decibel.sum(), perfect.sum(), counted.sum()]
        if self._ranges:
            maps, in_region = _ssim_maps(image, truth, where, truth_mask, self.window, list(self._ranges.values()))
            windows = in_region.flatten(1).sum(1)
            parts.append((windows > 0).sum())
            for similarity in maps:
                values = torch.where(in_region, similarity, 0.0).flatten(1).sum(1) / windows
                parts.append(torch.where(windows > 0, values, 0.0).sum())
        batch = torch.stack([part.double() for part in parts])
        self._sums = batch if self._sums is None else self._sums + batch

    def compute(self) -> dict[str, float]:
        """The metrics, with the numbers of ``pixels`` and ``images`` they were computed on; over all ranks.

        ``psnr`` adds ``psnr_perfect``, the number of images without any error in the region (each counted as
        :data:`PSNR_CAP` dB). Similarities are left out if no window lies in the region, for example if pixels without
        truth are scattered over all images.

        Raises:
            LacunaError: no batch was added, the region was empty in all of them, or only similarities were requested
                and there is none.
        """
        if self._sums is None:
            raise LacunaError("No images were given to the metrics: the data set to evaluate is empty.")
        sums = self._sums.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        squares, pixels, decibel, perfect, images, *windowed = sums.tolist()
        if pixels == 0:
            raise LacunaError("The region to evaluate is empty in every image: no missing pixel has a truth.")
        found = {"mse": squares / pixels, "rmse": math.sqrt(squares / pixels), "psnr": decibel / images}
        if windowed and windowed[0]:
            found |= {name: total / windowed[0] for name, total in zip(self._ranges, windowed[1:], strict=True)}
        elif set(self.names) == set(self._ranges):
            raise LacunaError("No SSIM window lies in the region: leave out ssim for this region.")
        counts = {"pixels": pixels, "images": images} | ({"psnr_perfect": perfect} if "psnr" in self.names else {})
        return {name: found[name] for name in self.names if name in found} | counts

    def reset(self) -> None:
        """Forget all batches."""
        self._sums = None


def _squares(image: Tensor, truth: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of squared errors and numbers of values in the region, both (B,) float64."""
    region = _region(image, truth, where)
    # Selected before the subtraction, so that a NaN outside affects neither the value nor the gradient.
    error = torch.where(region, image, 0.0).double() - torch.where(region, truth, 0.0).double()
    return error.square().flatten(1).sum(1), region.flatten(1).sum(1)


def _psnr(errors: Tensor, data_range: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / errors)


def _region(image: Tensor, truth: Tensor, where: Tensor | None) -> Tensor:
    """``where`` as a bool (B,C,H,W)."""
    if image.ndim != 4 or image.shape != truth.shape:
        raise LacunaError(f"Images {tuple(image.shape)} and truth {tuple(truth.shape)} must both be (B, C, H, W).")
    if where is None:
        return torch.ones_like(image, dtype=torch.bool)
    fits = where.ndim == 4 and where.shape[1] in (1, image.shape[1]) and where.dtype == torch.bool
    if not fits or (where.shape[0], *where.shape[2:]) != (image.shape[0], *image.shape[2:]):
        raise LacunaError(
            f"A region must be boolean, (B, 1, H, W) or (B, C, H, W): {where.dtype} {tuple(where.shape)} does not fit "
            f"images {tuple(image.shape)}."
        )
    return where.expand_as(image)


def _refuse_empty(count: Tensor) -> None:
    if not bool((count > 0).any()):
        raise LacunaError("The region to evaluate is empty in every image: there is nothing to measure.")


def _ssim_maps(
    image: Tensor,
    truth: Tensor,
    where: Tensor | None,
    truth_mask: Tensor | None,
    window: str,
    data_ranges: Sequence[float],
) -> tuple[list[Tensor], Tensor]:
    """SSIM of each window, one (B,C,h,w) float64 map per data range, and the bool map of windows that count."""
    kernel, unbias = _kernel(window, image.device)
    side = len(kernel)
    centres, exists = _region(image, truth, where), _region(image, truth, truth_mask)
    if min(image.shape[-2:]) < side:
        size = f"{image.shape[-2]}x{image.shape[-1]}"
        raise LacunaError(f"SSIM's {side}x{side} window does not fit into {size} images: leave out ssim.")
    # float64: E[x²] - E[x]² against a constant of 9e-4 loses four digits in float32.
    x, y = torch.where(exists, image, 0.0).double(), torch.where(exists, truth, 0.0).double()
    both = torch.cat([x, y, x * x, y * y, x * y], 1)
    filtered = _filter(both, kernel).chunk(5, dim=1)
    mean_x, mean_y = filtered[0], filtered[1]
    var_x, var_y, cov = (
        (second - first) * unbias
        for second, first in zip(filtered[2:], (mean_x**2, mean_y**2, mean_x * mean_y), strict=True)
    )
    maps = []
    for data_range in data_ranges:
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        means = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        maps.append(means * (2 * cov + c2) / (var_x + var_y + c2))
    edge = side // 2
    counted = centres[..., edge : centres.shape[-2] - edge, edge : centres.shape[-1] - edge]
    if truth_mask is not None:
        counted = counted & (F.max_pool2d((~exists).float(), side, stride=1) == 0)
    return maps, counted


def _kernel(window: str, device: torch.device) -> tuple[Tensor, float]:
    """One-dimensional window (float64, sums to 1) and the factor that makes its covariance the sample covariance."""
    if window == "uniform":
        return torch.full((7,), 1 / 7, dtype=torch.float64, device=device), 49 / 48
    if window == "gaussian":
        weights = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64, device=device) / 1.5) ** 2)
        return weights / weights.sum(), 1.0
    raise LacunaError(f"SSIM window {window!r} is unknown: choose uniform or gaussian.")


def _filter(images: Tensor, kernel: Tensor) -> Tensor:
    """Separable filter of (B,C,H,W), windows inside the image only."""
    batch, channels = images.shape[:2]
    flat = images.flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return flat.view(batch, channels, *flat.shape[-2:])
