"""Metrics against plain numpy/scipy formulas and torchmetrics, and behaviour at empty regions and NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.metrics import MaskedMetrics, mse, psnr, rmse, ssim
from lacuna.metrics.masked import PSNR_CAP

GENERATOR = torch.Generator().manual_seed(0)
TRUTH = torch.rand(5, 3, 20, 17, generator=GENERATOR)
IMAGE = (TRUTH + 0.1 * torch.randn(TRUTH.shape, generator=GENERATOR)).clamp(0, 1)
MISSING = torch.rand(5, 1, 20, 17, generator=GENERATOR) > 0.6


def test_pooled_and_per_image_errors() -> None:
    squares = (IMAGE - TRUTH).double().square()
    inside = MISSING.expand_as(TRUTH)
    assert mse(IMAGE, TRUTH, MISSING).item() == pytest.approx(squares[inside].mean().item(), rel=1e-12)
    assert rmse(IMAGE, TRUTH, MISSING).item() == pytest.approx(math.sqrt(squares[inside].mean().item()), rel=1e-12)
    for found, image, region in zip(rmse(IMAGE, TRUTH, MISSING, per_image=True), squares, inside, strict=True):
        assert found.item() == pytest.approx(image[region].mean().sqrt().item(), rel=1e-12)
    assert mse(IMAGE, TRUTH).item() == pytest.approx(squares.mean().item(), rel=1e-12)
    per_channel = torch.rand(TRUTH.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    assert mse(IMAGE, TRUTH, per_channel).item() == pytest.approx(squares[per_channel].mean().item(), rel=1e-12)


def test_psnr_is_a_mean_over_images() -> None:
    errors = (IMAGE - TRUTH).double().square().flatten(1).mean(1)
    expected = -10 * torch.log10(errors)
    assert torch.allclose(psnr(IMAGE, TRUTH, per_image=True), expected)
    assert psnr(IMAGE, TRUTH).item() == pytest.approx(expected.mean().item())
    assert psnr(IMAGE, TRUTH, data_range=2.0).item() == pytest.approx(expected.mean().item() + 20 * math.log10(2))
    perfect = torch.cat([IMAGE[:1], TRUTH[1:2]])
    assert psnr(perfect, TRUTH[:2], per_image=True)[1] == math.inf
    assert psnr(perfect, TRUTH[:2]).item() == pytest.approx((expected[0].item() + PSNR_CAP) / 2)


def skimage_ssim_map(x: np.ndarray, y: np.ndarray, data_range: float) -> np.ndarray:
    """skimage's published formula for one channel: uniform 7x7 window, sample covariance, border of 3 cropped."""
    ux, uy = uniform_filter(x, 7), uniform_filter(y, 7)
    norm = 49 / 48
    vx = norm * (uniform_filter(x * x, 7) - ux * ux)
    vy = norm * (uniform_filter(y * y, 7) - uy * uy)
    vxy = norm * (uniform_filter(x * y, 7) - ux * uy)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
    return np.asarray(similarity[3:-3, 3:-3])


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_skimages(data_range: float) -> None:
    found = ssim(IMAGE, TRUTH, data_range=data_range, per_image=True)
    inside = ssim(IMAGE, TRUTH, MISSING, data_range=data_range, per_image=True)
    for i in range(len(TRUTH)):
        image, truth = IMAGE[i].double().numpy(), TRUTH[i].double().numpy()
        maps = np.stack([skimage_ssim_map(image[c], truth[c], data_range) for c in range(3)])
        assert found[i].item() == pytest.approx(maps.mean(), abs=1e-12)
        region = MISSING[i].numpy()[:, 3:-3, 3:-3].repeat(3, axis=0)
        assert inside[i].item() == pytest.approx(maps[region].mean(), abs=1e-12)
    assert ssim(IMAGE, TRUTH, data_range=data_range).item() == pytest.approx(found.mean().item())


def test_the_published_range_is_a_metric_of_its_own() -> None:
    """Beside ``ssim``, over any batches, against skimage's formula at its old default of 2."""
    metrics = MaskedMetrics(["ssim", "ssim_range2"])
    for part in (slice(0, 3), slice(3, 5)):
        metrics.update(IMAGE[part], TRUTH[part], MISSING[part])
    found = metrics.compute()
    assert set(found) == {"ssim", "ssim_range2", "pixels", "images"}
    for name, data_range in (("ssim", 1.0), ("ssim_range2", 2.0)):
        values = []
        for image, truth, missing in zip(IMAGE.double().numpy(), TRUTH.double().numpy(), MISSING.numpy(), strict=True):
            maps = np.stack([skimage_ssim_map(image[c], truth[c], data_range) for c in range(3)])
            values.append(maps[missing[:, 3:-3, 3:-3].repeat(3, axis=0)].mean())
        assert found[name] == pytest.approx(np.mean(values), abs=1e-12)
    assert found["ssim_range2"] > found["ssim"] + 1e-4
    only = MaskedMetrics(["psnr", "ssim_range2"], data_range=5.0)
    only.update(IMAGE, TRUTH, MISSING)
    assert only.compute()["ssim_range2"] == pytest.approx(found["ssim_range2"], rel=1e-12)


def test_gaussian_ssim_is_torchmetrics() -> None:
    reference = pytest.importorskip("torchmetrics.functional.image")
    image, truth = IMAGE.double(), TRUTH.double()
    _, maps = reference.structural_similarity_index_measure(
        image, truth, data_range=1.0, reduction="none", return_full_image=True
    )
    # torchmetrics' own mean includes windows over a reflected border; skimage's and Wang's does not.
    expected = maps[..., 5:-5, 5:-5].flatten(1).mean(1)
    assert torch.allclose(ssim(image, truth, window="gaussian", per_image=True), expected, atol=1e-10)


def test_identical_images_have_ssim_one() -> None:
    assert ssim(TRUTH, TRUTH).item() == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [mse, rmse, psnr, ssim])
@pytest.mark.parametrize("nowhere", [float("nan"), float("inf")])
def test_values_outside_the_region_do_not_matter(metric, nowhere: float) -> None:
    """Even NaN times zero is NaN; and the gradient stays finite, too."""
    truth_mask = torch.ones(5, 1, 20, 17, dtype=torch.bool)
    truth_mask[:, :, :4, :9] = False
    image = IMAGE.clone().requires_grad_()
    truth = torch.where(truth_mask, TRUTH, nowhere)
    if metric is ssim:
        found = ssim(image, truth, MISSING, truth_mask=truth_mask)
        expected = ssim(IMAGE, torch.where(truth_mask, TRUTH, 0.3), MISSING, truth_mask=truth_mask)
    else:
        found = metric(image, truth, MISSING & truth_mask)
        expected = metric(IMAGE, TRUTH, MISSING & truth_mask)
    assert torch.equal(found.detach(), expected)
    found.backward()
    assert image.grad is not None and image.grad.isfinite().all()


def test_ssim_windows_with_pixels_without_truth_are_left_out() -> None:
    truth_mask = torch.ones(5, 1, 20, 17, dtype=torch.bool)
    truth_mask[..., :10, :] = False  # windows centred in rows 13..16 see rows 10..19 only
    assert ssim(IMAGE, TRUTH, truth_mask=truth_mask).item() == pytest.approx(
        ssim(IMAGE[..., 10:, :], TRUTH[..., 10:, :]).item()
    )


def test_image_with_an_empty_region_is_left_out() -> None:
    region = MISSING.clone()
    region[2] = False
    others = [0, 1, 3, 4]
    for metric in (mse, rmse, psnr, ssim):
        per_image = metric(IMAGE, TRUTH, region, per_image=True)
        assert per_image[2].isnan() and per_image[others].isfinite().all()
        without = metric(IMAGE[others], TRUTH[others], region[others])
        assert metric(IMAGE, TRUTH, region).item() == pytest.approx(without.item())
        with pytest.raises(LacunaError, match="empty in every image"):
            metric(IMAGE, TRUTH, torch.zeros_like(region))


def test_a_diverged_imputation_is_detected() -> None:
    image = IMAGE.clone()
    image[0, 0, 10, 10] = float("nan")
    everywhere = torch.ones_like(MISSING)
    assert mse(image, TRUTH, everywhere).isnan()
    assert psnr(image, TRUTH, everywhere).isnan() and ssim(image, TRUTH, everywhere).isnan()
    metrics = MaskedMetrics()
    metrics.update(image, TRUTH)
    assert math.isnan(metrics.compute()["mse"]) and math.isnan(metrics.compute()["ssim"])


def accumulate(parts: list[slice], truth_mask: Tensor | None = None, **options: object) -> dict[str, float]:
    metrics = MaskedMetrics(**options)  # type: ignore[arg-type]
    for part in parts:
        metrics.update(IMAGE[part], TRUTH[part], MISSING[part], None if truth_mask is None else truth_mask[part])
    return metrics.compute()


def test_accumulation_equals_the_functions_for_any_batches() -> None:
    whole = accumulate([slice(0, 5)])
    assert accumulate([slice(0, 1), slice(1, 4), slice(4, 5)]) == pytest.approx(whole, rel=1e-12)
    assert whole == pytest.approx(
        {
            "mse": mse(IMAGE, TRUTH, MISSING).item(),
            "rmse": rmse(IMAGE, TRUTH, MISSING).item(),
            "psnr": psnr(IMAGE, TRUTH, MISSING).item(),
            "ssim": ssim(IMAGE, TRUTH, MISSING).item(),
            "ssim_range2": ssim(IMAGE, TRUTH, MISSING, data_range=2.0).item(),
            "pixels": 3 * MISSING.sum().item(),
            "images": 5,
            "psnr_perfect": 0,
        }
    )
    assert set(accumulate([slice(0, 5)], names=["rmse"])) == {"rmse", "pixels", "images"}


def test_accumulation_leaves_out_pixels_without_truth() -> None:
    truth_mask = torch.ones(5, 1, 20, 17, dtype=torch.bool)
    truth_mask[1] = False
    found = accumulate([slice(0, 2), slice(2, 5)], truth_mask=truth_mask)
    assert found["images"] == 4
    assert found["rmse"] == pytest.approx(rmse(IMAGE, TRUTH, MISSING & truth_mask).item())
    assert found["ssim"] == pytest.approx(ssim(IMAGE, TRUTH, MISSING, truth_mask=truth_mask).item())


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match="Unknown metric 'fid'"):
        MaskedMetrics(["fid"])
    with pytest.raises(LacunaError, match="No images"):
        MaskedMetrics().compute()
    empty = MaskedMetrics(["rmse"])
    empty.update(IMAGE, TRUTH, torch.zeros_like(MISSING))
    with pytest.raises(LacunaError, match="empty in every image"):
        empty.compute()
    with pytest.raises(LacunaError, match="must be boolean"):
        mse(IMAGE, TRUTH, MISSING.float())
    with pytest.raises(LacunaError, match=r"must both be \(B, C, H, W\)"):
        mse(IMAGE, TRUTH[:2])
    with pytest.raises(LacunaError, match="11x11"):
        ssim(IMAGE[..., :8], TRUTH[..., :8], window="gaussian")
    with pytest.raises(LacunaError, match="choose uniform or gaussian"):
        ssim(IMAGE, TRUTH, window="box")
