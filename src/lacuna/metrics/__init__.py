"""Metrics on a stated region of incomplete images."""

from lacuna.metrics.masked import MaskedMetrics, mse, psnr, rmse, ssim

__all__ = ["MaskedMetrics", "mse", "psnr", "rmse", "ssim"]
