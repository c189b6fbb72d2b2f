"""Train MCFlow or PRFlow on incomplete images only (Richardson et al. 2020; Bernal, arXiv 2104.01482)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.imputers.mcflow import MCFlow
from lacuna.runs.precision import HALF_SCALED
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.optimizers import make_optimizer
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.impute import ImputeTask
from lacuna.tasks.mcflow.imputed_set import ImputedSet
from lacuna.tasks.mcflow.schedule import Schedule
from lacuna.tasks.mcflow.step import AlternatingStep

TERMS = ("flow_nll", "nll", "reconstruction", "prior")
"""Losses: J of the flow; J1, J2 and J3 of the network (equations 6 to 9 of PRFlow's paper)."""


class TrainMCFlow(ImputeTask):
    """Alternating training of the flow G and the network H, with all training images imputed anew at times.

    G learns the density of the imputed training images. H learns to map an image's latent values so that the
    reconstruction is likely under G and agrees with the observed pixels. At a refresh all training images are imputed
    by the current networks. No refresh follows the last epoch, so that the model that is tested is the trained one.

    The imputed training images are part of the training state and of its checkpoints. ``train/loss`` is J, the negative
    log-likelihood of the imputed images under G in nats an image; as it belongs to a density it can be negative.

    Raises:
        LacunaError: the imputer is no MCFlow, or a setting is out of its range.
    """

    model: MCFlow
    several_devices = False  # every process would impute and refresh only its own images

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, MCFlow):
            raise LacunaError(f"This task trains imputer.type=mcflow.MCFlow, not {self.config['imputer']['type']}.")
        spec = self.training_spec
        self.alternating, self.schedule = AlternatingStep(spec, self.model.size), Schedule(spec)
        self.imputed = ImputedSet(self.data.train, self.cache_bytes, self.eval_batch_size)
        self.imputed_validation: ImputedSet | None = None
        if self.data.has_validation and self.model.replays:
            self.imputed_validation = ImputedSet(self.data.validation, self.cache_bytes, self.eval_batch_size)
        self.means = torch.nn.ModuleDict({name: RunningMean() for name in TERMS})

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check the settings of the training, besides those of every imputer's run."""
        super().check(recipe, data)
        if recipe.config["precision"] == HALF_SCALED:
            raise LacunaError(
                f"precision={HALF_SCALED} scales one loss, and this method has two with one gradient: use bf16-mixed."
            )
        Schedule(recipe.training)
        AlternatingStep(recipe.training, math.prod(data.shape))

    def prepare(self) -> None:
        """Impute all images initially, unless a checkpoint has been loaded."""
        for images in self._imputed_sets():
            if not images.initialised:
                images.initialise(self.model.initial_imputation)

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Two optimisers, by default Adam: of the flow, and of the network between its latent values."""
        networks = (self.model.flow, self.model.net)
        return [make_optimizer(self.training_spec, each.parameters()) for each in networks]

    def not_capturable(self) -> str | None:
        """Also where the imputed images are in host memory."""
        if self.imputed.device != self.train_images.device:
            return "the imputed images are in host memory (trainer.cache_gb)"
        return super().not_capturable()

    def step(self, batch: Batch, kind: Hashable) -> Tensor:
        """Update both networks on a batch; returns J."""
        x = self.imputed(batch)
        found = self.alternating.step(self.model, x, batch.observed, batch.mask, *self._optimizers())
        for name, value in found.items():
            mean = self.means[name]
            assert isinstance(mean, RunningMean)
            mean.update(value, len(batch))
        self.mean_loss.update(found["flow_nll"], len(batch))
        return found["flow_nll"]

    def check_finite(self) -> None:
        """Check all losses since the start of the epoch.

        Raises:
            LacunaError: one is not finite.
        """
        means = {name: mean for name, mean in self.means.items() if isinstance(mean, RunningMean)}
        self._check_finite({name: float(mean.total) for name, mean in means.items() if mean.total is not None})

    def epoch_metrics(self) -> dict[str, float]:
        """The losses, the validation metrics, the number of refreshes and the weight of the prior.

        Raises:
            LacunaError: a loss is no longer finite.
        """
        means = {name: self._mean(name) for name in TERMS if name != "prior" or self.alternating.prior.used}
        self._check_finite(means)
        found = super().epoch_metrics()
        found |= {f"train/{name}": value for name, value in means.items() if name != "flow_nll"}
        found["train/refreshes"] = float(self.schedule.refreshes)
        if self.alternating.prior.used:
            found["train/prior_weight"] = float(self.alternating.prior.value)
            self.alternating.prior.end_epoch(self.current_epoch + 1, means["nll"], means["prior"])
        return found

    def on_train_epoch_end(self) -> None:
        """Log the epoch; then stop, or impute all images anew, if it is time."""
        super().on_train_epoch_end()
        epochs = self.current_epoch + 1
        if self.schedule.done(self.latest_metrics["train/reconstruction"]):
            self.trainer.should_stop = True
        elif self.schedule.refresh_due(epochs) and epochs < self.training_spec["epochs"]:
            self._refresh()

    def validate(self) -> dict[str, float]:
        """Errors of the validation images. Their imputations are refreshed with the training images', which saves the
        passes through all earlier stages.
        """
        imputed = self.imputed_validation
        if imputed is None:
            return super().validate()

        def impute(batch: Batch) -> Tensor:
            return self.model.current_stage(imputed(batch), batch.observed, batch.mask)

        return self._evaluate(self.data.validation, semantics=False, impute=impute)[0]

    def _imputed_sets(self) -> list[ImputedSet]:
        return [self.imputed, *([] if self.imputed_validation is None else [self.imputed_validation])]

    def _refresh(self) -> None:
        """Impute all images with the current networks, then (``refresh.reset_flow``) initialise the flow anew."""
        model = self.model.eval()
        for images in self._imputed_sets():
            images.update(model.advance)
        model.end_stage(reset_flow=self.schedule.reset_flow)
        if self.schedule.reset_flow:
            self.alternating.discard_leaked_gradients()
            self._optimizers()[0].state.clear()
        self.steps.forget()
        self.schedule.refreshed()
        model.train()

    def _mean(self, name: str) -> float:
        mean = self.means[name]
        assert isinstance(mean, RunningMean)
        return mean.compute()

    def _check_finite(self, means: Mapping[str, float]) -> None:
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        if wrong:
            prior = "" if wrong[0] != "prior" else ", or imputer.training.prior.weight"
            raise LacunaError(
                f"The loss '{wrong[0]}' became {means[wrong[0]]} in epoch {self.current_epoch}: lower "
                f"imputer.training.lr (now {self.training_spec['lr']}){prior}."
            )
