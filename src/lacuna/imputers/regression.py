"""A network that predicts missing pixels from observed ones in squared error, trained on incomplete images alone.

Ours, in neither paper. In training some observed pixels are held out, anew in each epoch, and predicted from the
others, as in Noise2Self (Batson and Royer 2019). The minimiser of that error is E[pixel | observed pixels], the
imputation with the smallest squared error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.imputers.base import Imputer
from lacuna.imputers.simple import check_image_shape
from lacuna.registry import build


class Regression(Imputer):
    """Imputes with the mean predicted by a density's network; the other parameters of the density are not used.

    Args:
        shape: (C, H, W) of the images.
        net: spec of a network (``nets/residual_net.py``, ``nets/density_net.py``).
    """

    def __init__(self, shape: Sequence[int], net: Mapping[str, Any]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.net: nn.Module = build("net", net, shape=self.shape, components=1, factors=0)

    def predict(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The prediction (B,C,H,W) of all pixels, any real values; arguments as for :meth:`impute`."""
        found: Tensor = self.net(torch.where(mask, observed, 0), mask).mean[:, 0]
        return found.to(observed.dtype)

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, torch.Size(self.shape), observed)
        return self.predict(observed, mask)
