"""What a user of the library calls on finished runs."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lacuna.runs.folder import RunFolder
from lacuna.training.loading import load as load_folder


def load(run: str | Path, output: str | Path = "outputs") -> nn.Module:
    """The trained model of a finished run, frozen and in evaluation mode.

    Args:
        run: the run's directory, or its name, or the beginning of its name or identity.
        output: where ``runs/`` lies, if ``run`` is not a path.

    Returns:
        A density, ``density(observed, mask) -> MFA``, a flow (:class:`lacuna.flows.acflow.ACFlow`, with ``mean``,
        ``sample`` and ``log_prob``), an imputer, ``imputer.impute(observed, mask) -> image``, or a classifier,
        ``classifier(observed, mask) -> logits``; images float (B, C, H, W) in [0, 1], masks bool with True = observed.
        Nothing in the run's files is executed.

    Raises:
        LacunaError: no such run, or it is not finished or damaged.
    """
    return load_folder(RunFolder.find(output, str(run)))
