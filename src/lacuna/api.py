"""Functions for users of the library that work on finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import reading
from lacuna.training.stored_model import load as load_folder


def load(run: str | Path, output: str | Path = "outputs", plugins: Sequence[str] = ()) -> nn.Module:
    """The trained model of a finished run, frozen and in evaluation mode.

    Args:
        run: directory of the run, or its name, or the beginning of its name or identity.
        output: folder that contains ``runs/``, if ``run`` is not a path.
        plugins: packages of others that the run uses and that may be imported.

    Returns:
        A density, ``density(observed, mask) -> MFA``; a flow (:class:`lacuna.flows.acflow.ACFlow`, with ``mean``,
        ``sample`` and ``log_prob``); an imputer, ``imputer.impute(observed, mask) -> image``; a classifier,
        ``classifier(observed, mask) -> logits``; or an auto-encoder, ``autoencoder(observed, mask) -> reconstruction``.
        Images are float (B, C, H, W) in [0, 1], masks bool (B, 1 or C, H, W) with True = observed. Code in the run's
        files is never executed; a package of others that it names is imported only if ``plugins`` names it, too.

    Raises:
        LacunaError: there is no such run, or it is unfinished or damaged, or uses a package that ``plugins`` lacks.
    """
    folder = RunFolder.find(output, str(run))
    with reading(folder, plugins, "lacuna.load(..., plugins=['{}'])"):
        return load_folder(folder)
