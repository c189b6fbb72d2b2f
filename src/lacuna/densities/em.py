"""EM for SMFA on incomplete images; the parameters are updated after each pass through the images.

Every pass is exact batch EM, for any division of the images into batches: it never lowers the log-likelihood of the
observed pixels plus the log-density of the prior. The memory of a pass does not depend on the number of images. It
takes about 2 K D (L^2/2 + 5L/2 + 3) multiplications per image of D pixels, all of them in matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lacuna.densities.em_algebra import exact_products
from lacuna.densities.em_expect import EStep, positions
from lacuna.densities.em_maximise import Statistics
from lacuna.densities.smfa import SMFA
from lacuna.errors import LacunaError


class Progress(NamedTuple):
    """Fit of the mixture at the start of a pass, in nats per observed value."""

    log_likelihood: float
    objective: float
    """Log-likelihood plus the log-density of the prior; it never decreases."""


class EM(nn.Module):
    """A pass of EM: :meth:`add` every batch, then :meth:`update`.

    It has no parameters. The sums of an unfinished pass are its ``training_state``, so that training can be resumed
    in the middle of a pass.

    Args:
        complete: no pixel is missing in any image. The result is the same, in about a quarter of the time.
    """

    def __init__(self, complete: bool = False) -> None:
        super().__init__()
        self.complete = complete
        self._step: EStep | None = None
        self._statistics: Statistics | None = None
        self._restored: list[Tensor] | None = None

    @torch.no_grad()
    def add(self, density: SMFA, observed: Tensor, mask: Tensor) -> None:
        """Add images to the pass.

        Args:
            density: started (:meth:`SMFA.start`), and not changed until :meth:`update`.
            observed: (B, C, H, W) in [0, 1]; read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W), the same in all batches of a pass.

        Raises:
            LacunaError: the density was not started, or shared and per-channel masks in one pass.
        """
        columns = positions(mask, self.complete).shape[1]
        if self._step is None or self._statistics is None:
            self._begin(density, columns)
        assert self._step is not None and self._statistics is not None
        if columns != self._step.columns:
            raise LacunaError("The masks of one pass of EM must be all shared by the channels or all per channel.")
        self._statistics.add(self._step, observed, mask, self.complete)

    def _begin(self, density: SMFA, columns: int) -> None:
        if not density.started:
            raise LacunaError("EM starts from images: call density.start(observed, mask) first.")
        with exact_products(density.mean):
            self._step = EStep(density.mixture, columns)
        self._statistics = Statistics.zeros(self._step)
        if self._restored is not None:
            for mine, stored in zip(self._statistics.tensors(), self._restored, strict=True):
                mine.copy_(stored)
            self._restored = None

    @torch.no_grad()
    def update(self, density: SMFA) -> Progress:
        """End the pass and set the new parameters of the density.

        Raises:
            LacunaError: no image was added.
        """
        if self._step is None or self._statistics is None:
            raise LacunaError("EM was given no images: add at least one batch before update.")
        step, found = self._step, self._statistics
        before = density.mixture
        reached = torch.stack([found.log_likelihood, found.log_likelihood + density.prior.log_density(before)])
        density.mixture = density.m_step()(found, step, before)
        self._step = self._statistics = None
        return Progress(*(reached / found.values).tolist())

    def training_state(self) -> dict[str, Any]:
        """The sums of the unfinished pass, for a checkpoint."""
        return {"sums": None if self._statistics is None else self._statistics.tensors()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self._step = self._statistics = None
        self._restored = state["sums"]


def fit(
    density: SMFA,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    passes: int = 50,
    tolerance: float = 1e-5,
    complete: bool = False,
) -> list[Progress]:
    """Run EM until a pass improves the objective by less than ``tolerance``.

    Args:
        density: started (:meth:`SMFA.start`).
        batches: (observed, mask) pairs, iterated in every pass (a list or a loader, not a generator).
        passes: largest number of passes.
        tolerance: in nats per observed value.
        complete: no pixel is missing in any image.

    Returns:
        The fit at the start of each pass.
    """
    em, history = EM(complete), list[Progress]()
    for _ in range(passes):
        for observed, mask in batches:
            em.add(density, observed, mask)
        history.append(em.update(density))
        if len(history) > 1 and history[-1].objective - history[-2].objective < tolerance:
            break
    return history
