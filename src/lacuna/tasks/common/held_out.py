"""Held-out pixels, from which tasks learn to impute, and the metrics of imputations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.masks import MaskScheme, NoMask
from lacuna.metrics.masked import SIMILARITIES, MaskedMetrics
from lacuna.registry import build
from lacuna.tasks.base import Task

SSIM_WINDOW = 7


def hold_out_scheme(hold_out: Mapping[str, Any]) -> MaskScheme:
    """The mask scheme of a ``hold_out`` config; keys that are null (of a scheme that was overridden) are ignored."""
    scheme: MaskScheme = build("mask", {key: value for key, value in hold_out.items() if value is not None})
    return scheme


class HoldOutTask(Task):
    """A task whose component has a ``hold_out``: the mask scheme of the held-out pixels."""

    def __init__(self, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.hold_out = hold_out_scheme(config[self.component]["hold_out"])
        # of this epoch's held-out pixels; a tensor, for a recorded step reads it anew in every epoch
        self._salt: Tensor | None = None

    def training_masks(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Masks of the model's input and of the held-out pixels of training images; new ones in each epoch.

        The two divide the observed pixels; missing pixels are in neither. bool (B,1,H,W) or (B,C,H,W).
        """
        salt = self._salt_of(str(self.current_epoch)) if self._salt is None else self._salt
        kept = self.hold_out.salted(batch.index, self.sizes.shape, salt)
        return batch.mask & kept, batch.mask & ~kept

    def begin_epoch(self) -> None:
        """Set the learning rate and the held-out pixels of this epoch."""
        super().begin_epoch()
        if self._salt is None:
            self._salt = torch.zeros((), dtype=torch.int64, device=self.device)
        self._salt.fill_(self._salt_of(str(self.current_epoch)))

    def evaluation_masks(self, images: IncompleteImages, batch: EvalBatch) -> tuple[Tensor, Tensor]:
        """Masks of the model's input and of the target: the missing pixels that have a truth.

        If the mask scheme removes nothing (a user's own incomplete images, for example), the target is held-out pixels.
        """
        if not isinstance(images.scheme, NoMask):
            return batch.mask, ~batch.mask & batch.truth_mask
        kept = self.hold_out.salted(batch.index, self.sizes.shape, self._salt_of(images.split))
        return batch.mask & kept, batch.mask & ~kept

    def preview_masks(self, batch: Batch) -> Tensor:
        """Masks of the model's input in a preview: some observed pixels are held out. bool (B,1,H,W) or (B,C,H,W)."""
        return batch.mask & self.hold_out.salted(batch.index, self.sizes.shape, self._salt_of("preview"))

    def _salt_of(self, what: str) -> int:
        """Of the masks that hold out pixels. ("hide" is part of a hash key: renaming it would change the masks.)"""
        return self.hold_out.salt(self.config["seed"], f"hide/{what}")

    def results(self) -> dict[str, float]:
        """Metrics of the test images."""
        return {f"test/{name}": value for name, value in self.evaluate(self.data.test).items()}


class ImputationMetrics:
    """Running metrics of imputations (C, H, W).

    ``mse`` and ``rmse`` are pooled over target values, ``sse`` is the sum per image ("MSE" in MisConv's table 7).
    ``psnr`` (dB) and ``ssim`` (data range 1; ``ssim_range2``: 2, as in MisConv's tables) compare the whole imputation
    with the truth; SSIM is left out if no 7x7 window of the truth is complete.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._names = ("psnr", *(SIMILARITIES if min(shape[1:]) >= SSIM_WINDOW else ()))
        self._target, self._whole = MaskedMetrics(["mse", "rmse"]), MaskedMetrics(self._names)

    def update(self, imputed: Tensor, batch: EvalBatch, target: Tensor) -> None:
        """Add imputations (B,C,H,W) in [0, 1]; ``target``: bool mask of the values to evaluate."""
        self._target.update(imputed, batch.truth, target)
        self._whole.update(imputed, batch.truth, truth_mask=batch.truth_mask)

    def compute(self, log_prob: Tensor | None = None) -> dict[str, float]:
        """The metrics; with ``log_prob`` also ``nll_per_dim`` (nats per target value, pooled) and ``nll`` (per image).

        Args:
            log_prob: log-density of all target values together, in nats; None if the method has none.
        """
        found = self._target.compute()
        if log_prob is not None:
            found |= {"nll_per_dim": -float(log_prob) / found["pixels"], "nll": -float(log_prob) / found["images"]}
        found["sse"] = found["mse"] * found.pop("pixels") / found.pop("images")
        whole = self._whole.compute()
        return found | {name: whole[name] for name in self._names if name in whole}
