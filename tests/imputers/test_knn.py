"""k-NN against scikit-learn's KNNImputer, which is an independent implementation of the same definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.knn import KNN, squared_distances

DIGITS = torch.tensor(load_digits().images, dtype=torch.float64).unsqueeze(1) / 16


def by_sklearn(donors: Tensor, donors_mask: Tensor, images: Tensor, mask: Tensor, k: int = 5) -> Tensor:
    """KNNImputer on flattened images, NaN where missing; columns never observed become 0."""
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    fitted = KNNImputer(n_neighbors=k, keep_empty_features=True).fit(
        torch.where(donors_mask, donors.double(), nan).flatten(1).numpy()
    )
    filled = fitted.transform(torch.where(mask, images.double(), nan).flatten(1).numpy())
    return torch.from_numpy(filled).view(images.shape)


def jittered(seed: int = 0) -> Tensor:
    """Digits with noise, so that no two distances are equal."""
    noise = torch.rand(DIGITS.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.9 * DIGITS + 0.1 * noise


def random_mask(shape: torch.Size, missing: float, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) >= missing


def square_holes(n: int, seed: int) -> Tensor:
    corner = torch.randint(0, 5, (n, 2, 1, 1, 1), generator=torch.Generator().manual_seed(seed))
    row, column = torch.arange(8).view(1, 1, 8, 1) - corner[:, 0], torch.arange(8).view(1, 1, 1, 8) - corner[:, 1]
    return ~((row >= 0) & (row < 4) & (column >= 0) & (column < 4))


@pytest.mark.parametrize("missing", [0.25, 0.9])
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float32", 1e-6)])
def test_equals_sklearn_where_pixels_are_missing_at_random(missing: float, dtype: str, error: float) -> None:
    images = jittered()
    donors, queries = images[:1200], images[1200:1300]
    donors_mask, mask = random_mask(donors.shape, missing, 1), random_mask(queries.shape, missing, 2)
    knn = KNN(dtype=dtype)
    knn.fit(donors, donors_mask)
    # The fitted donors are float32, so that is what scikit-learn has to see.
    expected = by_sklearn(donors.float(), donors_mask, queries, mask)
    assert (knn.impute(queries, mask) - expected).abs().max() < error


def test_equals_sklearn_on_missing_squares() -> None:
    images = jittered().float()
    donors_mask, mask = square_holes(1200, 1), square_holes(100, 2)
    knn = KNN()
    knn.fit(images[:1200], donors_mask)
    expected = by_sklearn(images[:1200], donors_mask.expand(1200, 1, 8, 8), images[1200:1300], mask)
    assert (knn.impute(images[1200:1300], mask) - expected).abs().max() < 1e-6


def test_fewer_donors_than_k_are_all_used_and_undefined_distances_give_the_mean() -> None:
    images = jittered()[:4].float()
    donors, query = images[:3], images[3:]
    donors_mask = torch.ones_like(donors, dtype=torch.bool)
    donors_mask[0, 0, 0, 0] = False
    donors_mask[1, 0, :, :] = False
    donors_mask[1, 0, 0, :2] = True  # shares a pixel only with queries that show the first row
    mask = torch.ones_like(query, dtype=torch.bool)
    mask[0, 0, 0] = False
    knn = KNN()
    knn.fit(donors, donors_mask)
    assert torch.allclose(knn.impute(query, mask).double(), by_sklearn(donors, donors_mask, query, mask), atol=1e-6)
    # Nothing in common with any donor: the mean of those that show the pixel.
    only_first = torch.zeros_like(donors_mask)
    only_first[..., 0] = True
    only_last = torch.zeros_like(mask)
    only_last[..., 7] = True
    knn.fit(donors, only_first)
    filled = knn.impute(query, only_last)
    assert torch.allclose(filled[0, 0, :, 0], donors[:, 0, :, 0].mean(0), atol=1e-6)
    # A pixel no donor shows: the mean of all that is shown (scikit-learn drops such columns).
    assert torch.allclose(filled[0, 0, :, 3], donors[:, 0, :, 0].mean().expand(8), atol=1e-6)


def test_color_images_with_shared_and_per_channel_masks() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(60, 3, 6, 6, generator=generator)
    for channels in (1, 3):
        mask = torch.rand(60, channels, 6, 6, generator=generator) > 0.3
        knn = KNN(k=3)
        knn.fit(images[:50], mask[:50])
        expected = by_sklearn(
            images[:50], mask[:50].expand(50, 3, 6, 6), images[50:], mask[50:].expand(10, 3, 6, 6), k=3
        )
        assert torch.allclose(knn.impute(images[50:], mask[50:]).double(), expected, atol=1e-6)


def test_eight_bit_distances_are_exact_integers() -> None:
    """Against int64 arithmetic, at a size where a plain float32 sum could not be exact."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randint(0, 256, (2, 7, 3 * 32 * 32), generator=generator)
    seen, shown = torch.rand(2, 7, 3 * 32 * 32, generator=generator) > 0.4
    both = (seen[:, None] & shown[None]).long()
    squares = ((x[:, None] - y[None]) ** 2 * both).sum(-1)
    expected = squares.double() * x.shape[1] / both.sum(-1)
    found = squared_distances(x.float() / 255, seen, y.float() / 255, shown, eight_bit=True)
    assert torch.equal(found, expected)


def test_tied_donors_share_the_remaining_weight() -> None:
    donors = torch.zeros(40, 1, 4, 4)
    donors[:, 0, 0, 0] = torch.arange(40) / 255  # the only pixel in which they differ is the one asked for
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0, 0] = False
    whole = torch.ones(40, 1, 4, 4, dtype=torch.bool)
    query = torch.zeros(1, 1, 4, 4)
    knn, first = KNN(k=3, ties="shared"), KNN(k=3)
    knn.fit(donors, whole)
    first.fit(donors, whole)
    assert knn.impute(query, mask)[0, 0, 0, 0].item() == pytest.approx(19.5 / 255)
    assert first.impute(query, mask)[0, 0, 0, 0].item() == pytest.approx(1 / 255)
    donors[:2, 0, 3, 3], query[0, 0, 3, 3] = 1, 1  # two nearer ones; the third is any of 38
    knn.fit(donors, whole)
    assert knn.impute(query, mask)[0, 0, 0, 0].item() == pytest.approx((0 + 1 + 20.5) / 3 / 255)


def test_the_published_variant_copies_the_first_of_equally_near_images() -> None:
    donors = torch.zeros(2, 1, 2, 2)
    donors[:, 0, 0, 0] = torch.tensor([0.25, 0.75])  # equally far from their mean
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    mask[0, 0, 0, 0] = False
    knn = KNN(published=True)
    knn.fit(donors, torch.ones_like(donors, dtype=torch.bool))
    assert knn.impute(torch.zeros(1, 1, 2, 2), mask)[0, 0, 0, 0] == 0.25


def with_shared_ties(donors: Tensor, donors_mask: Tensor, query: Tensor, seen: Tensor, k: int) -> Tensor:
    """By the definition, pixel by pixel, in fractions: whole numbers donors (N,D), query (D,)."""
    distance = []
    for donor, shown in zip(donors, donors_mask, strict=True):
        both = shown & seen
        squares = int(((donor - query)[both] ** 2).sum())
        distance.append(Fraction(squares, int(both.sum())) if both.any() else None)
    filled = query.double()
    for pixel in (~seen).nonzero().flatten().tolist():
        usable = [(d, int(donors[i, pixel])) for i, d in enumerate(distance) if d is not None and donors_mask[i, pixel]]
        last = sorted(d for d, _ in usable)[:k][-1]
        nearer = [value for d, value in usable if d < last]
        tied = [value for d, value in usable if d == last]
        left = min(k, len(usable)) - len(nearer)
        filled[pixel] = float((sum(nearer) + Fraction(left * sum(tied), len(tied))) / min(k, len(usable)))
    return filled


@pytest.mark.parametrize(("levels", "missing", "k"), [(2, 0.3, 5), (3, 0.6, 5), (3, 0.5, 1), (2, 0.8, 60)])
def test_many_ties_equal_the_definition_in_fractions(
    levels: int, missing: float, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(10)
    images = torch.randint(0, levels, (75, 1, 3, 4), generator=generator)
    mask = random_mask(images.shape, missing, 11)
    mask[:, 0, 0, 0] = True
    knn = KNN(k=k, ties="shared")
    knn.fit(images[:70].float() / 255, mask[:70])
    found = knn.impute(images[70:].float() / 255, mask[70:])
    rows, shown = images.flatten(1), mask.flatten(1)
    expected = [with_shared_ties(rows[:70], shown[:70], rows[i], shown[i], k) for i in range(70, 75)]
    assert torch.allclose(found.flatten(1).double() * 255, torch.stack(expected), rtol=0, atol=1e-6)
    monkeypatch.setattr("lacuna.imputers.knn_cells.CELLS", 60)
    monkeypatch.setattr("lacuna.imputers.knn.FIRST_RANKS", 6)
    assert torch.equal(knn.impute(images[70:].float() / 255, mask[70:]), found)


def test_the_order_of_the_donors_changes_nothing() -> None:
    images, mask = (DIGITS * 16).round().byte(), square_holes(len(DIGITS), 12)  # 17 levels: many ties
    order = torch.randperm(1297, generator=torch.Generator().manual_seed(13))
    queries = images[1297:1400].float() / 255, mask[1297:1400]
    filled = []
    for donors in (torch.arange(1297), order, order.flip(0)):
        knn = KNN(ties="shared")
        knn.fit(images[donors], mask[donors])
        filled.append(knn.impute(*queries))
    assert torch.equal(filled[0], filled[1]) and torch.equal(filled[0], filled[2])


def test_published_variant_pastes_the_nearest_complete_image() -> None:
    images = jittered().float()
    donors, queries, mask = images[:300], images[300:320], square_holes(20, 5)
    knn = KNN(published=True)
    assert knn.k == 1 and knn.complete_donors
    knn.fit(donors, torch.ones(300, 1, 8, 8, dtype=torch.bool))
    query = torch.where(mask, queries, donors.mean(0)).flatten(1).numpy()
    distances = ((query[:, None] - donors.flatten(1).numpy()[None]) ** 2).sum(-1)
    nearest = donors[torch.from_numpy(np.argmin(distances, 1))]
    assert torch.equal(knn.impute(queries, mask), torch.where(mask, queries, nearest))


def test_complete_donors_are_closer_to_the_truth_than_incomplete_ones() -> None:
    donors, queries, mask = DIGITS[:1297].float(), DIGITS[1297:].float(), square_holes(500, 6)
    errors = []
    for complete, donors_mask in ((False, square_holes(1297, 7)), (True, torch.ones(1297, 1, 8, 8, dtype=torch.bool))):
        knn = KNN(complete_donors=complete)
        knn.fit(donors, donors_mask)
        errors.append((knn.impute(queries, mask) - queries)[~mask].square().mean().item())
    assert errors[1] < 0.9 * errors[0]


def test_memory_bound_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, mask = (DIGITS * 240).round().float() / 255, random_mask(DIGITS.shape, 0.8, 8)
    knn = KNN()
    knn.fit(images[:500], mask[:500])
    assert knn.eight_bit
    whole = knn.impute(images[500:600], mask[500:600])
    monkeypatch.setattr("lacuna.imputers.knn.PAIRS", 500 * 7)
    monkeypatch.setattr("lacuna.imputers.knn_cells.CELLS", 100)
    monkeypatch.setattr("lacuna.imputers.knn.FIRST_RANKS", 6)
    assert torch.equal(knn.impute(images[500:600], mask[500:600]), whole)


def test_eight_bit_images_give_the_same_bits_in_any_batch_and_either_precision() -> None:
    stored, mask = (DIGITS * 240).round().byte(), square_holes(len(DIGITS), 9)
    images = stored.float() / 255
    filled = []
    for dtype in ("float32", "float64"):
        knn = KNN(dtype=dtype)
        knn.fit(stored[:1200], mask[:1200])  # uint8 is read as multiples of 1/255
        filled.append(knn.impute(images[1200:1300], mask[1200:1300]))
        singly = [knn.impute(images[i : i + 1], mask[i : i + 1]) for i in range(1200, 1300)]
        assert torch.equal(torch.cat(singly), filled[-1])
    assert torch.equal(*filled)


@pytest.mark.gpu
@pytest.mark.parametrize("missing", [0.6, 0.9])
def test_eight_bit_images_with_ties_give_the_same_bits_on_a_gpu(missing: float) -> None:
    images, mask = (DIGITS * 240).round().float() / 255, random_mask(DIGITS.shape, missing, 14)
    filled = []
    for device in ("cpu", "cuda"):
        knn = KNN(ties="shared").to(device)
        knn.fit(images[:1200].to(device), mask[:1200].to(device))
        filled.append(knn.impute(images[1200:].to(device), mask[1200:].to(device)).cpu())
    assert torch.equal(*filled)


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"imputer\.k=0"):
        KNN(k=0)
    with pytest.raises(LacunaError, match=r"imputer\.donors=0"):
        KNN(donors=0)
    with pytest.raises(LacunaError, match=r"imputer\.ties=last"):
        KNN(ties="last")
    with pytest.raises(LacunaError, match="float16"):
        KNN(dtype="float16")
    mask = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(LacunaError, match="complete_donors"):
        KNN(complete_donors=True).fit(DIGITS[:3], ~mask)
    knn = KNN()
    with pytest.raises(LacunaError, match="is not fitted"):
        knn.impute(DIGITS[:3], mask)
    knn.fit(DIGITS[:3], mask)
    with pytest.raises(LacunaError, match="same size"):
        knn.impute(torch.rand(1, 1, 9, 8), torch.ones(1, 1, 9, 8, dtype=torch.bool))
