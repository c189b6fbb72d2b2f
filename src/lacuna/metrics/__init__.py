"""Metrics of imputations on a given region of each image, and of whole sets of images."""

from lacuna.metrics.facenet import facenet
from lacuna.metrics.features import Features, inception
from lacuna.metrics.fid import FID, reference_statistics
from lacuna.metrics.masked import MaskedMetrics, mse, psnr, rmse, ssim
from lacuna.metrics.semantic import SemanticConsistency

__all__ = [
    "FID",
    "Features",
    "MaskedMetrics",
    "SemanticConsistency",
    "facenet",
    "inception",
    "mse",
    "psnr",
    "reference_statistics",
    "rmse",
    "ssim",
]
