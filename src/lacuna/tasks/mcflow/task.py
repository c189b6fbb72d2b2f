"""Train MCFlow or PRFlow on incomplete images only (Richardson et al. 2020; Bernal, arXiv 2104.01482)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.imputers.mcflow import MCFlow
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.impute import ImputeTask
from lacuna.tasks.mcflow.imputed_set import ImputedSet
from lacuna.tasks.mcflow.step import Alternation

TERMS = ("nll", "unlikely", "unfaithful", "rough")


class Schedule(torch.nn.Module):
    """When all images are imputed anew (after epochs first, first x factor, ...), and when training ends.

    MCFlow's code has 2 and 2: after epochs 2, 4, 8, ..., 256 of 500; PRFlow's paper says nothing else.

    It ends early where J2's epoch mean is no longer better than before: less than ``improvement`` better in the last
    ``patience`` epochs, or in the last ``share`` of those since the images were imputed, if these are more; and not
    before ``refreshes`` refreshes, for each makes J2 jump. PRFlow's paper: "until little change is observed", which
    the numbers in ``configs/imputer/prflow.yaml`` are our reading of.

    Args:
        spec: ``refresh: {first, factor, renew}`` (renew: whether G is made anew then), ``stop: {improvement,
            patience, share, refreshes}`` or None.

    Raises:
        LacunaError: a value that means nothing.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.first, self.factor, self.stop = spec["refresh"]["first"], spec["refresh"]["factor"], spec["stop"]
        for name, value, least in (("first", self.first, 1), ("factor", self.factor, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise LacunaError(
                    f"imputer.training.refresh.{name}={value} must be a whole number of at least {least}."
                )
        self.renew = spec["refresh"]["renew"]
        if not isinstance(self.renew, bool):
            raise LacunaError(f"imputer.training.refresh.renew={self.renew} must be true or false.")
        for name, value in (self.stop or {}).items():
            if isinstance(value, bool) or not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise LacunaError(f"imputer.training.stop.{name}={value} must be a number of at least 0.")
        self.refreshes = 0
        self._history: list[float] = []  # J2 of the epochs since the last refresh

    def due(self, epochs: int) -> bool:
        """Whether the images are imputed anew after ``epochs`` epochs."""
        return bool(epochs == self.first * self.factor**self.refreshes)

    def refreshed(self) -> None:
        """The images have been imputed anew."""
        self.refreshes, self._history = self.refreshes + 1, []

    def done(self, unfaithful: float) -> bool:
        """Whether training ends after an epoch with this mean of J2."""
        self._history.append(unfaithful)
        if self.stop is None or self.refreshes < self.stop["refreshes"]:
            return False
        window = max(1, round(self.stop["patience"]), math.ceil(self.stop["share"] * len(self._history)))
        if len(self._history) <= window:
            return False
        return bool(min(self._history[-window:]) > (1 - self.stop["improvement"]) * min(self._history[:-window]))

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"refreshes": self.refreshes, "history": list(self._history)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""
        self.refreshes, self._history = state["refreshes"], list(state["history"])


class TrainMCFlow(ImputeTask):
    """G learns the imputed images, H moves them towards what G finds likely and what is observed; then all is imputed.

    The imputed training images are state of the training and in its checkpoints. Nothing is refreshed after the last
    epoch: the model that is judged is the one that has been trained. ``train/loss`` is J, the negative log-likelihood
    of the imputed images under G in nats an image, which is a density's and becomes negative.

    Raises:
        LacunaError: an imputer that is no MCFlow, or a value that means nothing.
    """

    model: MCFlow
    several_devices = False  # every process would impute, and refresh, its own images only

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, MCFlow):
            raise LacunaError(f"This task trains imputer.type=mcflow.MCFlow, not {self.config['imputer']['type']}.")
        self.automatic_optimization = False
        spec = self.training_spec
        self.alternation, self.schedule = Alternation(spec, self.model.size), Schedule(spec)
        self.imputed = ImputedSet(self.data.train, self.cache_bytes, self.eval_batch_size)
        self.watched: ImputedSet | None = None
        if self.data.has_validation and self.model.replayed:
            self.watched = ImputedSet(self.data.validation, self.cache_bytes, self.eval_batch_size)
        self.means = torch.nn.ModuleDict({name: RunningMean() for name in TERMS})

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Settings of the training, besides what every imputer's run is checked for."""
        super().check(recipe, data)
        Schedule(recipe.training)
        Alternation(recipe.training, math.prod(data.shape))

    def prepare(self) -> None:
        """Fill the training images, unless a checkpoint has been loaded."""
        for images in self._carried():
            if not images.filled:
                images.begin(self.model.start)

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # type: ignore[override]
        """Two times Adam: of the flow, and of the network between its latent values."""
        networks = (self.model.flow, self.model.net)
        return [torch.optim.Adam(each.parameters(), lr=self.training_spec["lr"], fused=True) for each in networks]

    def set_rate(self, lr: float) -> None:
        """Take the next steps of both with this learning rate."""
        for optimizer in self._both():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def training_step(self, batch: Batch) -> None:  # type: ignore[override]
        """Update both networks on a batch; never waits for the device."""
        x = self.imputed(batch)
        for name, value in self.alternation.step(self.model, x, batch.observed, batch.mask, *self._both()).items():
            mean = self.means[name]
            assert isinstance(mean, RunningMean)
            mean.update(value, len(batch))
            if name == "nll":
                self.mean_loss.update(value, len(batch))

    def on_train_epoch_end(self) -> None:
        """Log the losses; impute all images anew, or stop, where it is time.

        Raises:
            LacunaError: a loss is no longer finite.
        """
        found = {name: self._mean(name) for name in TERMS if name != "rough" or self.alternation.prior.used}
        self._refuse_infinite(found)
        super().on_train_epoch_end()
        epochs = self.current_epoch + 1
        logged = {f"train/{name}": value for name, value in found.items() if name != "nll"}
        logged["train/refreshes"] = self.schedule.refreshes
        if self.alternation.prior.used:
            logged["train/prior_weight"] = float(self.alternation.prior.value)
            self.alternation.prior.end_epoch(epochs, found["unlikely"], found["rough"])
        self.log_dict({name: float(value) for name, value in logged.items()}, sync_dist=False)
        if self.schedule.done(found["unfaithful"]):
            self.trainer.should_stop = True
        elif self.schedule.due(epochs) and epochs < self.training_spec["epochs"]:
            self._refresh()

    def validate(self) -> dict[str, float]:
        """Errors of the validation images, which are taken along from stage to stage: they need not pass all anew."""
        watched = self.watched
        if watched is None:
            return super().validate()

        def impute(batch: Batch) -> Tensor:
            return self.model.last_stage(watched(batch), batch.observed, batch.mask)

        return self._evaluate(self.data.validation, semantics=False, impute=impute)[0]

    def _carried(self) -> list[ImputedSet]:
        """The sets that are taken from stage to stage."""
        return [self.imputed, *([] if self.watched is None else [self.watched])]

    def _refresh(self) -> None:
        """Impute the training images with the networks as they are, then make the flow anew."""
        model = self.model.eval()
        for images in self._carried():
            images.advance(model.advance)
        model.close_stage(renew=self.schedule.renew)
        if self.schedule.renew:
            self.alternation.renew()
            self._both()[0].state.clear()
        self.schedule.refreshed()
        model.train()

    def _both(self) -> list[Any]:
        found = self.optimizers()
        assert isinstance(found, list)
        return found

    def _mean(self, name: str) -> float:
        mean = self.means[name]
        assert isinstance(mean, RunningMean)
        return mean.compute()

    def _refuse_infinite(self, means: Mapping[str, float]) -> None:
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        if wrong:
            prior = "" if wrong[0] != "rough" else ", or imputer.training.prior.weight"
            raise LacunaError(
                f"The loss '{wrong[0]}' became {means[wrong[0]]} in epoch {self.current_epoch}: lower "
                f"imputer.training.lr (now {self.training_spec['lr']}){prior}."
            )
