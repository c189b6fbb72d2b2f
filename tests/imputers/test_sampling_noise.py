"""Noise as a function of the image: uniform, independent of the batch, of missing values, different per image."""

from __future__ import annotations

import torch

from lacuna.imputers.sampling_noise import image_keys, normal, uniform


def incomplete(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 6, 6, generator=generator), torch.rand(n, 1, 6, 6, generator=generator) > 0.5


def test_missing_values_and_other_images_do_not_matter():
    x, mask = incomplete()
    keys = image_keys(x, mask)
    assert torch.equal(image_keys(torch.where(mask, x, torch.nan), mask), keys)
    order = torch.randperm(len(x))
    assert torch.equal(image_keys(x[order], mask[order]), keys[order])
    assert torch.equal(uniform(keys[7:8], (5,)), uniform(keys, (5,))[7:8])


def test_another_value_place_or_mask_gives_other_noise():
    x, mask = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    seen = [int(image_keys(x, mask))]
    for row in range(4):
        for column in range(4):
            brighter, hole = x.clone(), mask.clone()
            brighter[0, 0, row, column] = 1 / 255
            hole[0, 0, row, column] = False
            seen += [int(image_keys(brighter, mask)), int(image_keys(x, hole))]
    assert len(set(seen)) == 33


def test_numbers_are_uniform_normal_and_of_their_own_in_every_draw():
    keys = image_keys(*incomplete())
    u, z = uniform(keys, (500,)), normal(keys, (500,), draw=3)
    assert float(u.min()) > 0 and float(u.max()) < 1
    share = torch.histc(u, 10, 0, 1) / u.numel()
    assert (share - 0.1).abs().max() < 5 * (0.09 / u.numel()) ** 0.5
    n = z.numel()
    assert abs(float(z.mean())) < 5 / n**0.5 and abs(float(z.var()) - 1) < 5 * (2 / n) ** 0.5
    draws = torch.stack([uniform(keys, (500,), draw) for draw in range(3)])
    correlation = torch.corrcoef(draws.flatten(1))
    assert (correlation - torch.eye(3)).abs().max() < 5 / n**0.5
    assert torch.equal(draws[1, :, :250], uniform(keys, (1000,))[:, 500:750])
