"""Recipes of earlier versions in today's words, so that no measured number is lost when a key gets a better name."""

from __future__ import annotations

KEYS = {"needs": "prerequisites", "hide": "hold_out", "hole": "missing_square"}
"""Keys anywhere in a recipe of version 2 -> their names in version 3."""

TYPES = {
    "classify.Classify": "classifier.TrainClassifier",
    "density.TrainDensity": "dmfa.TrainDMFA",
    "fit_density.FitDensity": "smfa.FitSMFA",
    "flow.TrainFlow": "acflow.TrainACFlow",
    "generate.Generate": "wae.TrainWAE",
    "mean_of.DensityMean": "density_mean.DensityMean",
}
"""Values of ``type`` in a recipe of version 2 -> those in version 3."""
