"""Train a Wasserstein auto-encoder on incomplete images (MisConv, section 4.2 and appendix A.3, tables 3 to 5)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.drawing.pictures import Row, image_grid
from lacuna.errors import LacunaError
from lacuna.metrics.fid import Score
from lacuna.metrics.masked import SIMILARITIES, MaskedMetrics
from lacuna.mfa import widened
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.frozen_stem import StemTask
from lacuna.tasks.common.models import IncompleteAutoencoder, build_autoencoder
from lacuna.tasks.common.optimizers import make_optimizer, set_rate
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.common.sample_fid import SampleFID, check_features, feature_net

RECONSTRUCTION = ("observed", "authors")
TERMS = ("reconstruction", "adversarial", "discriminator")
SSIM_WINDOW = 7
DRAWN = 10


class TrainWAE(StemTask):
    """Minimise the reconstruction error at observed pixels and an adversarial distance of the codes from N(0, 1).

    Tolstikhin et al. 2018, algorithm 1. One forward and one backward pass serve encoder, decoder and discriminator:
    all take their gradients at the weights before the step. ``net.training.reconstruction``: the squared error is
    averaged over observed values (``observed``), or over all values with an error of 0 at missing ones (``authors``,
    as in their code).
    """

    model: IncompleteAutoencoder
    several_devices = False  # adversarial training is not implemented for several devices

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.means = {name: RunningMean() for name in TERMS}
        self.registered = nn.ModuleDict(self.means)  # registered, so that checkpoints contain them
        features = feature_net(Recipe(self.config), self.prerequisites.get("features"))
        seed = self.config["seed"]
        self.fid = None if features is None else SampleFID(features, self.data, seed, self.cache, self.eval_batch_size)

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check the settings of the training, and whether FID can be computed."""
        training = recipe.training
        for name, least in (("discriminator_lr", 0), ("adversarial_weight", 0), ("fid_every", 1)):
            value = training[name]
            if not (isinstance(value, int | float) and least <= value < math.inf):
                raise LacunaError(f"net.training.{name}={value} must be a number of at least {least}.")
        if training["reconstruction"] not in RECONSTRUCTION:
            choices = " nor ".join(RECONSTRUCTION)
            raise LacunaError(f"net.training.reconstruction={training['reconstruction']} is neither {choices}.")
        check_features(recipe, data)

    def build(self) -> IncompleteAutoencoder:
        """The stem and auto-encoder of the recipe, with the models of its prerequisites."""
        return build_autoencoder(self.config, self.sizes, self.prerequisites)

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One, by default Adam; the discriminator has a learning rate of its own."""
        discriminator = list(self.model.wae.discriminator.parameters())
        excluded = {id(weight) for weight in discriminator}
        weights = [w for w in self.model.parameters() if w.requires_grad and id(w) not in excluded]
        groups = [{"params": weights}, {"params": discriminator, "lr": self.training_spec["discriminator_lr"]}]
        return make_optimizer(self.training_spec, groups)

    def set_rate(self, lr: float) -> None:
        """Set the learning rates, the discriminator's in proportion to the encoder's."""
        (optimizer,) = self._optimizers()
        encoder, discriminator = optimizer.param_groups
        set_rate(encoder, lr)
        set_rate(discriminator, self.training_spec["discriminator_lr"] * lr / self.training_spec["lr"])

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Reconstruction + weight x adversarial + discriminator; the last term trains the discriminator only."""
        wae = self.model.wae
        encoding = self.encoding(self.train_images, batch)
        code = self.model.encode(batch.observed, batch.mask, encoding)
        terms = {
            "reconstruction": self._reconstruction(widened(self.model.wae.decode(code)), batch),
            # cross entropies: softplus(-logit) for "drawn from N(0, 1)", softplus(logit) for "encoded"
            "adversarial": softplus(-widened(wae.discriminate(code, frozen=True))).mean(),
            "discriminator": self._discrimination(code.detach()),
        }
        for name, value in terms.items():
            self.means[name].update(value, len(batch))
        weight = self.training_spec["adversarial_weight"]
        return terms["reconstruction"] + weight * terms["adversarial"] + terms["discriminator"], len(batch)

    def _reconstruction(self, image: Tensor, batch: Batch) -> Tensor:
        mask = batch.mask.expand_as(image)
        errors = torch.where(mask, image - batch.observed, 0).square().sum()
        if self.training_spec["reconstruction"] == "authors":
            return errors / image.numel()
        return errors / mask.sum().clamp(min=1)

    def _discrimination(self, code: Tensor) -> Tensor:
        discriminate = self.model.wae.discriminate
        drawn = torch.randn_like(widened(code))
        return softplus(-widened(discriminate(drawn))).mean() + softplus(widened(discriminate(code))).mean()

    def epoch_metrics(self) -> dict[str, float]:
        """The loss, the validation metrics, the loss's terms and, every ``fid_every`` epochs, the FID of samples."""
        found = super().epoch_metrics()
        found |= {f"train/{name}": mean.compute() for name, mean in self.means.items()}
        epoch, every = self.current_epoch + 1, self.training_spec["fid_every"]
        if self.fid is not None and (epoch % every == 0 or epoch == self.training_spec["epochs"]):
            found["test/fid"] = self._fid(self.fid).value
        return found

    # ------------------------------------------------------------------ evaluation

    def _fid(self, fid: SampleFID) -> Score:
        model = self.model.eval()
        score = fid.measure(model.sample)
        model.train(self.training)
        return score

    @torch.no_grad()
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """``psnr`` (dB) and ``ssim`` (data range 1) between the truth and the decoded image.

        ``ssim_range2`` has the data range 2 of MisConv's tables. Observed pixels are not put back. Images without a
        7x7 window of known truth have no similarity.
        """
        model = self.model.eval()
        names = ("psnr", *(SIMILARITIES if min(self.sizes.shape[1:]) >= SSIM_WINDOW else ()))
        whole = MaskedMetrics(names)
        for batch in self.batches(images):
            decoded = widened(model(batch.observed, batch.mask, self.encoding(images, batch)))
            whole.update(decoded, batch.truth, truth_mask=batch.truth_mask)
        model.train(self.training)
        metrics = whole.compute()
        return {name: metrics[name] for name in names if name in metrics}

    def results(self) -> dict[str, float]:
        """Metrics of reconstructed incomplete (tables 4, 5) and complete test images, and FID of samples (table 3).

        ``test/fid`` is that of the trained model, ``test/fid_best`` the lowest of those measured during training.
        """
        sets = {"test": self.data.test, "complete": self.data.complete("test")}
        if self.data.has_validation:
            sets["validation"] = self.data.validation
        found = {f"{split}/{k}": v for split, images in sets.items() for k, v in self.evaluate(images).items()}
        if self.fid is not None:
            score, every = self._fid(self.fid), self.training_spec["fid_every"]
            found |= {"test/fid": score.value, "test/fid_best": min(self.fid.lowest, score.value)}
            often = "every epoch" if every == 1 else f"every {every} epochs"
            self.protocols = {
                "test/fid": f"{score.protocol}, after the last epoch",
                "test/fid_best": f"{score.protocol}, the lowest of values taken after {often} on these same images",
            }
        return found

    def preview(self, batch: Batch) -> dict[str, list[Row]]:
        """Reconstructions and samples."""
        made = self.model(batch.observed, batch.mask).float()
        draws = self.model.sample(len(batch), torch.Generator(made.device).manual_seed(0)).float()
        rows = [Row("observed", batch.observed, mask=batch.mask), Row("reconstruction", made), Row("samples", draws)]
        return {"samples": rows}

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Samples, and reconstructions of test images (figure 2)."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(DRAWN, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        rows = [
            Row("truth", batch.truth, mask=batch.truth_mask),
            Row("observed", batch.observed, mask=batch.mask),
            Row("reconstruction", model(batch.observed, batch.mask).float()),
        ]
        samples = model.sample(DRAWN * 5, torch.Generator(images.device).manual_seed(0)).float()
        titles = ["samples", *[""] * 4]
        paths = {name: folder / f"{name}.png" for name in ("samples", "reconstructions")}
        image_grid([Row(*row) for row in zip(titles, samples.split(DRAWN), strict=True)], path=paths["samples"])
        image_grid(rows, path=paths["reconstructions"])
        return paths
