"""The interface of imputers, and the guarantees that hold for all of them.

A method implements ``_impute`` and, where it can, ``_sample`` and ``_fit``. The public methods here guarantee that
missing values are never read, that observed pixels are returned bit-identical and that results lie in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError


class Imputer(nn.Module, ABC):
    """Replaces the missing pixels of incomplete images.

    Attributes:
        needs_fit: whether :meth:`fit` must be called with training images before :meth:`impute`.
        donors: number of training images that :meth:`fit` needs; 0 = none, ``None`` = all of them.
        complete_donors: whether :meth:`fit` needs *complete* images (the published k-NN), an advantage that tables have
            to state.
        cheap: whether imputation costs next to nothing, so that caching its results is not worthwhile.

    Fitted state lives in buffers, so ``state_dict`` holds it, and a fresh, unfitted object of the same
    class takes it back with ``load_state_dict`` whatever the image shape was.
    """

    needs_fit: ClassVar[bool] = False
    donors: int | None = 0
    complete_donors: bool = False
    cheap: ClassVar[bool] = False

    @torch.no_grad()
    def impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        """One imputation of each image.

        Args:
            observed: (B,C,H,W) floating point, values in [0, 1]; missing values are never read.
            mask: (B,1,H,W) or (B,C,H,W) bool, True = observed.

        Returns:
            (B,C,H,W) of ``observed``'s type: observed pixels bit-identical, imputed ones in [0, 1].

        Raises:
            LacunaError: the mask is not boolean or does not fit the images, or the imputer is not fitted.
        """
        observed, mask = self._checked(observed, mask)
        filled = self._impute(observed, mask)
        return torch.where(mask, observed, filled.to(observed.dtype).clamp(0, 1))

    @torch.no_grad()
    def sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        """``n`` random imputations of each image, (n,B,C,H,W); arguments as for :meth:`impute`.

        Raises:
            LacunaError: the method is deterministic, ``n`` is below 1, or as for :meth:`impute`.
        """
        observed, mask = self._checked(observed, mask)
        if n < 1:
            raise LacunaError(f"{type(self).__name__}.sample was asked for {n} samples: ask for at least 1.")
        drawn = self._sample(observed, mask, n)
        return torch.where(mask, observed, drawn.to(observed.dtype).clamp(0, 1))

    @torch.no_grad()
    def fit(self, donors_observed: Tensor, donors_mask: Tensor) -> None:
        """Estimate the method's parameters from (incomplete) training images; no effect if it has none.

        Args:
            donors_observed: (N,C,H,W) in [0, 1], or uint8 (then 0..255 is read as 0..1).
            donors_mask: (N,1,H,W) or (N,C,H,W) bool, True = observed.

        Raises:
            LacunaError: there are no images, their shape or type does not fit, or complete ones are needed.
        """
        if donors_observed.ndim == 4 and len(donors_observed) == 0:
            raise LacunaError(f"{type(self).__name__}.fit was given no images: pass at least one training image.")
        if donors_observed.dtype != torch.uint8 and not donors_observed.is_floating_point():
            raise LacunaError(f"{type(self).__name__}.fit takes uint8 or floating-point images.")
        self._check_shapes(donors_observed, donors_mask)
        if self.complete_donors and not bool(donors_mask.all()):
            raise LacunaError(
                f"{type(self).__name__} was configured for complete donors (imputer.complete_donors=true) but was "
                "given incomplete images: use mask=none for it, or set imputer.complete_donors=false."
            )
        self._fit(donors_observed, donors_mask)

    @property
    def can_sample(self) -> bool:
        """Whether the method is random, so that :meth:`sample` works."""
        return type(self)._sample is not Imputer._sample

    @property
    def fitted(self) -> bool:
        """Whether :meth:`impute` can be called. An imputer that needs :meth:`fit` is fitted if no buffer is empty."""
        return not self.needs_fit or all(buffer.numel() > 0 for buffer in self.buffers(recurse=False))

    def forward(self, observed: Tensor, mask: Tensor) -> Tensor:
        """Same as :meth:`impute`."""
        return self.impute(observed, mask)

    @abstractmethod
    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        """(B,C,H,W), of which only missing pixels are used; ``observed`` is zero there, ``mask`` (B,1|C,H,W)."""

    def _sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        """(n,B,C,H,W) random imputations, of which only missing pixels are used."""
        raise LacunaError(
            f"{type(self).__name__} is deterministic and cannot sample: use a density or a flow for that."
        )

    def _fit(self, observed: Tensor, mask: Tensor) -> None:
        """Estimate parameters and store them in buffers; read ``observed`` only where ``mask`` is True."""

    def _checked(self, observed: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if not observed.is_floating_point():
            raise LacunaError(f"{type(self).__name__} takes floating-point images in [0, 1], not {observed.dtype}.")
        self._check_shapes(observed, mask)
        if self.needs_fit and not self.fitted:
            raise LacunaError(
                f"{type(self).__name__} is not fitted: call fit(images, mask) with training images first."
            )
        return torch.where(mask, observed, torch.zeros((), dtype=observed.dtype, device=observed.device)), mask

    def _check_shapes(self, images: Tensor, mask: Tensor) -> None:
        name = type(self).__name__
        if mask.dtype != torch.bool:
            raise LacunaError(f"{name}: the mask must be boolean (True = observed), not {mask.dtype}: use mask.bool().")
        fits = images.ndim == 4 and mask.ndim == 4 and mask.shape[1] in (1, images.shape[1])
        if not fits or (images.shape[0], *images.shape[2:]) != (mask.shape[0], *mask.shape[2:]):
            raise LacunaError(
                f"{name}: images {tuple(images.shape)} and mask {tuple(mask.shape)} do not fit: "
                "images are (B, C, H, W), masks (B, 1, H, W) or (B, C, H, W)."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # The shape of fitted buffers is known from the stored ones only, so the empty ones are reshaped first.
        for name, buffer in list(self.named_buffers(recurse=False)):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != buffer.shape:
                setattr(self, name, torch.empty(stored.shape, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def unit_scale(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]: uint8 is divided by 255, other types are only converted."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
