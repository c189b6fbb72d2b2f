"""What fills the holes: a trained run, an imputer that needs no training, or one that learns from the images given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lacuna.data.sources.depth import Scale
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.imputers.per_channel import PerChannelImputer
from lacuna.inference.batches import BatchImputer
from lacuna.inference.pictures import Picture
from lacuna.inference.trained_model import ByImputer, TrainedModel
from lacuna.program import command_text
from lacuna.registry import build
from lacuna.tasks.common.models import Sizes

COVARIANCE = 4096
"""Values of the largest images for which a full covariance is estimated: a minute on one core."""
GREYED = "colours made grey, for the model was trained on grey images"
COLOURED = "grey written as RGB, for the model was trained on RGB images"
Kind = tuple[tuple[int, ...], np.dtype[np.generic]]


class Filling:
    """Fills with one model.

    Args:
        model: it.
        sizes: of the images it was trained on; None: it takes any size.
        device: where it is.
        samples: how many further imputations to draw of each image.
        seed: of the samples.
        imputer: the model's imputer, if it has one.

    Raises:
        LacunaError: samples are asked of an imputer that has only one answer.
    """

    def __init__(
        self, model: TrainedModel, sizes: Sizes | None, device: torch.device, samples: int, seed: int,
        imputer: Imputer | None = None,
    ) -> None:  # fmt: skip
        if imputer is not None and samples and not imputer.can_sample:
            raise LacunaError(
                f"samples={samples}: {type(imputer).__name__} is deterministic and cannot sample: leave samples out, "
                "or use a density or a flow."
            )
        self.batches = BatchImputer(model, sizes, device, samples, seed)
        self.samples, self.sizes = samples, sizes
        self.uncertain = imputer is None or imputer.can_sample
        self.alone = isinstance(imputer, PerChannelImputer)
        """Whether it needs an observed pixel in every image."""

    def accepted(self, picture: Picture, where: Path) -> Picture:
        """The picture as the model takes it.

        Args:
            picture: any.
            where: its file, for the message.

        Raises:
            LacunaError: it has another size than the model's, or nothing is observed and the model needs it.
        """
        if self.alone and not picture.observed.any():
            raise LacunaError(f"{where} has no observed pixel: there is nothing to fill it from.")
        if self.sizes is not None and len(picture.values) != self.sizes.shape[0]:
            picture = _with_channels(picture, self.sizes.shape[0])
        self.batches.check(picture.values.shape, where)
        return picture

    def of(self, kind: Kind) -> BatchImputer:
        """What imputes the images of one shape and type."""
        return self.batches


class Learned(Filling):
    """An imputer that has learnt from the images given: one for each size and type among them.

    Args:
        spec: config of the imputer.
        device: where to learn.
        samples: as for :class:`Filling`.
        seed: as for :class:`Filling`.
        pictures: the images to learn from.
    """

    def __init__(
        self, spec: Mapping[str, Any], device: torch.device, samples: int, seed: int, pictures: Iterable[Picture]
    ) -> None:
        first = built(spec)
        super().__init__(_model(first), None, device, samples, seed, first)
        groups: dict[Kind, list[Picture]] = {}
        for picture in pictures:
            groups.setdefault(kind_of(picture), []).append(picture)
        self._scales = {kind: _common([picture.scale for picture in group]) for kind, group in groups.items()}
        self._learned: dict[Kind, BatchImputer] = {}
        self._failed: dict[Kind, str] = {}
        self.lines = []
        """Who learnt from what."""
        for kind, group in groups.items():
            size = "x".join(map(str, kind[0]))
            try:
                imputer = _fitted(built(spec), group, self._scales[kind]).to(device)
            except LacunaError as error:
                self._failed[kind] = f"{spec['name']} cannot learn from {len(group)} images of {size}: {error}"
                continue
            self._learned[kind] = BatchImputer(_model(imputer), None, device, samples, seed)
            self.lines.append(f"{spec['name']} learnt from {len(group)} images of {size} (channels, height, width)")

    def accepted(self, picture: Picture, where: Path) -> Picture:
        """As :meth:`Filling.accepted`; the scale is that of all images of its kind."""
        kind = kind_of(picture)
        if kind in self._failed:
            raise LacunaError(f"{where}: {self._failed[kind]}")
        return replace(picture, scale=self._scales[kind])

    def of(self, kind: Kind) -> BatchImputer:
        """As :meth:`Filling.of`."""
        return self._learned[kind]


def built(spec: Mapping[str, Any]) -> Imputer:
    """The imputer of a config, on the CPU.

    Raises:
        LacunaError: it has to be trained first.
    """
    if spec.get("task") or spec.get("prerequisites"):
        name = spec["name"]
        train = (
            f"{command_text('train')} experiment=folder_dmfa task=impute imputer={name} mask=bernoulli features=none"
        )
        raise LacunaError(
            f"imputer={name} has to be trained: `{train} data.path=FOLDER`, then run=NAME here. Without training there "
            "are linear, nearest, biharmonic, harmonic, zero, ring; mean, gaussian and knn learn from the images given."
        )
    imputer: Imputer = build("imputer", spec)
    return imputer.eval()


def kind_of(picture: Picture) -> Kind:
    """Shape and type: images of one kind are imputed together."""
    return picture.values.shape, picture.scale.dtype


def untrained(spec: Mapping[str, Any], device: torch.device, samples: int, seed: int) -> Filling:
    """An imputer that needs nothing but the image itself."""
    imputer = built(spec).to(device)
    return Filling(_model(imputer), None, device, samples, seed, imputer)


def _model(imputer: Imputer) -> TrainedModel:
    return lambda observed, mask: ByImputer.of(imputer, observed, mask)


def _fitted(imputer: Imputer, group: list[Picture], scale: Scale) -> Imputer:
    values = group[0].values.size
    if type(imputer).__name__ == "Gaussian" and values > COVARIANCE:
        raise LacunaError(
            f"a full covariance is estimated for up to {COVARIANCE} values, these images have {values}: use "
            "imputer=knn or imputer=linear, or smaller images."
        )
    some = group if imputer.donors is None else group[: imputer.donors]
    observed = np.stack([np.broadcast_to(picture.observed, (1, *picture.values.shape[1:])) for picture in some])
    images = np.stack([scale.unit(np.where(picture.observed, picture.values, scale.low)) for picture in some])
    imputer.fit(torch.from_numpy(images).float(), torch.from_numpy(observed))
    return imputer


def _common(scales: list[Scale]) -> Scale:
    """The scale of images of one type whose ranges differ."""
    return replace(scales[0], low=min(scale.low for scale in scales), high=max(scale.high for scale in scales))


def _with_channels(picture: Picture, channels: int) -> Picture:
    """An 8-bit picture in grey or in colours.

    Raises:
        LacunaError: it has another depth.
    """
    if picture.mode not in ("L", "RGB"):
        asked = "RGB" if channels == 3 else "grey"
        raise LacunaError(
            f"{picture.name} is {picture.mode}, the model was trained on {asked} images: give such images."
        )
    if channels == 3:
        return replace(picture, values=picture.values.repeat(3, 0), mode="RGB", notes=(*picture.notes, COLOURED))
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(picture.values.transpose(1, 2, 0))).convert("L"))[None]
    return replace(picture, values=grey, mode="L", notes=(*picture.notes, GREYED))
