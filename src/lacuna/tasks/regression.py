"""Train a network to predict held-out observed pixels from the other observed ones."""

from __future__ import annotations

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch
from lacuna.imputers.regression import Regression
from lacuna.tasks.common.held_out import HoldOutTask
from lacuna.tasks.impute import ImputeTask


class TrainRegression(ImputeTask, HoldOutTask):
    """Minimise the squared error at held-out values, which the network's input lacks.

    ``imputer.hold_out`` is their mask scheme. It should hold out fractions of many sizes, small ones too: in training
    the network gets fewer pixels than are observed, when imputing all of them.
    """

    model: Regression

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean squared error at held-out values, and their number."""
        observed, target = self.training_masks(batch)
        target = target.expand_as(batch.observed)
        count = target.sum()
        errors = torch.where(target, self.model.predict(batch.observed, observed) - batch.observed, 0)
        return errors.square().sum() / count.clamp(min=1), count
