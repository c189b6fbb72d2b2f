"""Functions for users of the library that work on finished runs."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lacuna.runs.folder import RunFolder
from lacuna.training.stored_model import load as load_folder


def load(run: str | Path, output: str | Path = "outputs") -> nn.Module:
    """The trained model of a finished run, frozen and in evaluation mode.

    Args:
        run: directory of the run, or its name, or the beginning of its name or identity.
        output: folder that contains ``runs/``, if ``run`` is not a path.

    Returns:
        A density, ``density(observed, mask) -> MFA``; a flow (:class:`lacuna.flows.acflow.ACFlow`, with ``mean``,
        ``sample`` and ``log_prob``); an imputer, ``imputer.impute(observed, mask) -> image``; a classifier,
        ``classifier(observed, mask) -> logits``; or an auto-encoder, ``autoencoder(observed, mask) -> reconstruction``.
        Images are float (B, C, H, W) in [0, 1], masks bool (B, 1 or C, H, W) with True = observed. Code in the run's
        files is never executed.

    Raises:
        LacunaError: there is no such run, or it is unfinished or damaged.
    """
    return load_folder(RunFolder.find(output, str(run)))
