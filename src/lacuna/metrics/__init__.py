"""Metrics on a stated region of incomplete images, and of whole sets of images."""

from lacuna.metrics.features import Features, inception
from lacuna.metrics.fid import FID, reference_statistics
from lacuna.metrics.masked import MaskedMetrics, mse, psnr, rmse, ssim

__all__ = ["FID", "Features", "MaskedMetrics", "inception", "mse", "psnr", "reference_statistics", "rmse", "ssim"]
