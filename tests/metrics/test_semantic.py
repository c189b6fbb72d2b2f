"""SCC: accuracy on imputed images over accuracy on the true ones, never above 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.metrics.semantic import SemanticConsistency


def brightest(images: Tensor) -> Tensor:
    """A classifier: the class is the column whose pixel of the first row is the brightest."""
    return images[:, 0, 0]


def one_hot(classes: list[int]) -> Tensor:
    return torch.eye(4)[classes].view(-1, 1, 1, 4).expand(-1, -1, 2, -1)


LABELS = [0, 1, 2, 3, 0, 1, 2, 3]


def scc_of(recovered: list[int], true: list[int], batch: int = 3) -> SemanticConsistency:
    scc, label = SemanticConsistency(brightest), torch.tensor(LABELS)
    for rows in torch.arange(len(LABELS)).split(batch):
        scc.update(one_hot(recovered)[rows], one_hot(true)[rows], label[rows])
    return scc


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_it_is_the_ratio_of_the_accuracies(batch: int) -> None:
    found = scc_of([0, 1, 2, 0, 1, 2, 3, 0], [0, 1, 2, 3, 0, 1, 0, 0], batch).compute()
    assert (found.recovered, found.true, found.images) == (3 / 8, 6 / 8, 8)
    assert found.value == 0.5


def test_it_is_at_most_one() -> None:
    assert scc_of(LABELS, LABELS).compute().value == 1
    better = scc_of(LABELS, [0, 0, 0, 0, 0, 0, 0, 0]).compute()
    assert better.recovered == 1 and better.true == 0.25 and better.value == 1


def test_it_is_none_if_no_true_image_is_classified_correctly() -> None:
    assert scc_of(LABELS, [1, 0, 0, 0, 1, 0, 0, 0]).compute().value is None
    with pytest.raises(LacunaError, match="No images"):
        SemanticConsistency(brightest).compute()


def test_images_are_rounded_to_8_bits() -> None:
    """Values beyond white are white, and differences below half a grey level are none: the first class wins ties."""
    scc = SemanticConsistency(brightest)
    image = torch.tensor([[1.0, 1.5, 0, 0], [0.5, 0.5 + 0.4 / 255, 0, 0]]).view(2, 1, 1, 4)
    assert brightest(image).argmax(1).tolist() == [1, 1]
    scc.update(image, one_hot([0, 0])[:, :, :1], torch.tensor([0, 0]))
    assert scc.compute().recovered == 1
