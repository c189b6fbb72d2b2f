"""Train a network to predict observed pixels that were hidden on purpose, from the observed ones that were not."""

from __future__ import annotations

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch
from lacuna.imputers.regression import Regression
from lacuna.tasks.common.held_out import HoldOutTask
from lacuna.tasks.impute import ImputeTask


class TrainRegression(ImputeTask, HoldOutTask):
    """Minimise the squared error at observed values that the network is not shown.

    ``imputer.hold_out`` says which they are. It should hide shares of many sizes, small ones too, for what is shown in
    training is less than what will be observed.
    """

    model: Regression

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean squared error of the values hidden on purpose, and their number."""
        shown, scored = self.training_masks(batch)
        scored = scored.expand_as(batch.observed)
        count = scored.sum()
        errors = torch.where(scored, self.model.guess(batch.observed, shown) - batch.observed, 0)
        return errors.square().sum() / count.clamp(min=1), count
