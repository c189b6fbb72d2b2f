"""The verb ``impute``: complete a user's own images with a trained density, flow or imputer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.runs import environment
from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import reading


def main(config: dict[str, Any]) -> int:
    """Write imputed images, their uncertainty and, if asked for, several samples of each.

    Args:
        config: the composed configuration.

    Raises:
        LacunaError: a mistake the user can mend.
    """
    for key in ("run", "input"):
        if not config[key]:
            raise LacunaError(f"{key} is empty: {command_text('impute')} run=digits-square-dmfa-s0 input=my_images/")
    target, samples = Path(config["to"]), config["samples"]
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise LacunaError(f"samples={samples} must be a whole number of at least 0.")
    if target.exists():
        raise LacunaError(f"to={target} exists already: choose another place, nothing is overwritten.")
    environment.check_threads(config["trainer"]["threads"])
    # torch is imported only now, so that mistakes in the configuration are found at once
    with environment.quick_imports():
        import torch

        from lacuna.inference.batches import BatchImputer
        from lacuna.inference.image_files import impute_images, open_images
        from lacuna.inference.trained_model import load_for_imputation

    source = open_images(Path(config["input"]), config["mask_suffix"], config["layout"], samples)
    environment.set_up(config["trainer"]["threads"])
    cuda = torch.cuda.is_available() and config["trainer"]["accelerator"] in ("auto", "cuda", "gpu")
    device = torch.device("cuda" if cuda else "cpu")
    folder = RunFolder.find(config["output"], str(config["run"]))
    with reading(folder, config["plugins"], "plugins=[{}]"):
        model, sizes = load_for_imputation(folder, device)
    count = impute_images(source, BatchImputer(model, sizes, device, samples, config["seed"]), target)
    print(f"{count} images imputed in {target}")
    return 0
