"""Cross entropy and metrics of classes and attributes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from lacuna.tasks.common.classification_scores import AttributeScores, ClassScores, cross_entropy, scores

N, A = 40, 5
NOISE = torch.Generator().manual_seed(0)
LOGITS = torch.randn(N, A, generator=NOISE)
LABEL = (torch.rand(N, A, generator=NOISE) < torch.tensor([0.5, 0.1, 0.9, 0.3, 0.5])).to(torch.uint8)


def test_cross_entropy_is_minus_the_log_probability_of_the_labels() -> None:
    likely = torch.where(LABEL.bool(), LOGITS.sigmoid(), 1 - LOGITS.sigmoid()).log()
    assert torch.allclose(cross_entropy(LOGITS, LABEL), -likely.mean())
    assert torch.allclose(cross_entropy(LOGITS, LABEL, "sum"), -likely.mean(1).sum())
    classes = torch.arange(N) % A
    assert torch.equal(cross_entropy(LOGITS, classes), functional.cross_entropy(LOGITS, classes))


@pytest.mark.parametrize("batch", [1, 7, N])
def test_metrics_do_not_depend_on_batches(batch: int) -> None:
    found = AttributeScores(A)
    for rows in torch.arange(N).split(batch):
        found.update(LOGITS[rows], LABEL[rows])
    right, has = (LOGITS.numpy() > 0) == LABEL.numpy(), LABEL.numpy() == 1
    balanced = np.mean([(right[has[:, a], a].mean() + right[~has[:, a], a].mean()) / 2 for a in range(A)])
    expected = {"accuracy": right.mean(), "balanced_accuracy": balanced}
    expected["loss"] = float(cross_entropy(LOGITS, LABEL))
    assert found.compute() == pytest.approx(expected, rel=1e-6)


def test_guessing_the_more_frequent_value_has_a_balanced_accuracy_of_one_half() -> None:
    guess = AttributeScores(A)
    often = LABEL.float().mean(0)
    guess.update((often - 0.5).expand(N, A), LABEL)
    found = guess.compute()
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    assert found["accuracy"] == pytest.approx(float(torch.maximum(often, 1 - often).mean()))


def test_an_attribute_that_all_images_have() -> None:
    found = AttributeScores(2)
    found.update(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.ones(2, 2, dtype=torch.uint8))
    assert found.compute()["balanced_accuracy"] == found.compute()["accuracy"] == 0.75


def test_the_labels_of_the_data_decide() -> None:
    assert isinstance(scores(None), ClassScores) and isinstance(scores(3), AttributeScores)
    classes = torch.arange(N) % A
    found = scores(None)
    for rows in torch.arange(N).split(9):
        found.update(LOGITS[rows], classes[rows])
    right = (LOGITS.argmax(1) == classes).float().mean()
    expected = {"accuracy": float(right), "loss": float(functional.cross_entropy(LOGITS, classes))}
    assert found.compute() == pytest.approx(expected, rel=1e-6)
