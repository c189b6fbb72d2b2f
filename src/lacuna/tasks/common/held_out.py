"""What tasks share that learn to complete images: hiding pixels on purpose, and judging what is put in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.masks import MaskScheme, NoMask
from lacuna.metrics.masked import SIMILARITIES, MaskedMetrics
from lacuna.registry import build
from lacuna.tasks.base import Task

SSIM_WINDOW = 7


def hold_out_scheme(hold_out: Mapping[str, Any]) -> MaskScheme:
    """The mask scheme that a ``hold_out`` says; a key that is null is another scheme's and does not count."""
    scheme: MaskScheme = build("mask", {key: value for key, value in hold_out.items() if value is not None})
    return scheme


class HidingTask(Task):
    """A task whose part has a ``hold_out``: the mask scheme of what is hidden on purpose."""

    def __init__(self, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.hold_out = hold_out_scheme(config[self.component]["hold_out"])

    def regions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the model is shown of training images, and what it is scored on; anew in each epoch.

        Both lie within what is observed, so that what is really missing is in neither: bool (B,1,H,W) or (B,C,H,W).
        """
        shown = self._shown(batch, str(self.current_epoch))
        return batch.mask & shown, batch.mask & ~shown

    def judged(self, images: IncompleteImages, batch: EvalBatch) -> tuple[Tensor, Tensor]:
        """What the model is shown, and the hidden values whose truth is known.

        Where the mask scheme hides nothing (a user's own incomplete images, say), the ``hold_out`` scheme does.
        """
        if not isinstance(images.scheme, NoMask):
            return batch.mask, ~batch.mask & batch.known
        shown = self._shown(batch, images.split)
        return batch.mask & shown, batch.mask & ~shown

    def _shown(self, batch: Batch, what: str) -> Tensor:
        return self.hold_out(batch.index, self.sizes.shape, seed=self.config["seed"], split=f"hide/{what}")

    def results(self) -> dict[str, float]:
        """Metrics of the test images."""
        return {f"test/{name}": value for name, value in self.evaluate(self.data.test).items()}


class JudgedImputations:
    """Running metrics of completed images (C, H, W).

    ``mse`` and ``rmse`` are pooled over hidden values, ``sse`` is per image (MisConv, table 7's "MSE"), ``psnr`` (dB)
    and ``ssim`` (data range 1; ``ssim_range2``: 2, as in MisConv's tables) are between the image and the image with its
    holes filled (no similarity where no 7x7 window of the truth is wholly known).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._names = ("psnr", *(SIMILARITIES if min(shape[1:]) >= SSIM_WINDOW else ()))
        self._holes, self._whole = MaskedMetrics(["mse", "rmse"]), MaskedMetrics(self._names)

    def update(self, filled: Tensor, batch: EvalBatch, hidden: Tensor) -> None:
        """Add completed images (B,C,H,W) in [0, 1], of whose values ``hidden`` ones are judged."""
        self._holes.update(filled, batch.truth, hidden)
        self._whole.update(filled, batch.truth, known=batch.known)

    def compute(self, log_prob: Tensor | None = None) -> dict[str, float]:
        """The metrics, with ``nll_per_dim`` (nats per hidden value, pooled) and ``nll`` (nats per image).

        Args:
            log_prob: of all hidden values together, in nats; None where nobody knows it, so that neither is there.
        """
        found = self._holes.compute()
        if log_prob is not None:
            found |= {"nll_per_dim": -float(log_prob) / found["pixels"], "nll": -float(log_prob) / found["images"]}
        found["sse"] = found["mse"] * found.pop("pixels") / found.pop("images")
        judged = self._whole.compute()
        return found | {name: judged[name] for name in self._names if name in judged}
