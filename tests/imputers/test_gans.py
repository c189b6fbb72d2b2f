"""MisGAN and P-BiGAN as imputers: their noise, means of samples, mask values, images of another size."""

from __future__ import annotations

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.imputers.misgan import MisGAN, composite
from lacuna.imputers.pbigan import PBiGAN
from lacuna.imputers.sampling_noise import image_keys, normal, uniform

SHAPE = (2, 4, 5)
Images = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, *SHAPE, generator=generator), torch.rand(6, 1, *SHAPE[1:], generator=generator) > 0.5


def misgan(**settings: object) -> MisGAN:
    torch.manual_seed(0)
    small = {"nets": "dense", "latent": 3, "widths": (8, 6), "imputer_widths": (16,)}
    return MisGAN(SHAPE, **{**small, **settings}).eval()  # type: ignore[arg-type]


def pbigan(**settings: object) -> PBiGAN:
    torch.manual_seed(0)
    made = PBiGAN(SHAPE, **{"nets": "dense", "latent": 3, "widths": (8, 6), **settings})  # type: ignore[arg-type]
    return made.eval()


@torch.no_grad()
def test_misgan_imputes_from_the_image_s_own_noise(images):
    x, mask = images
    model, keys = misgan(samples=3), image_keys(x, mask)
    draws = [model.imputer(torch.where(mask, x, uniform(keys, SHAPE, draw))) for draw in range(3)]
    torch.testing.assert_close(model.impute(x, mask), torch.where(mask, x, sum(draws) / 3))
    assert not torch.equal(model.impute(x, mask), misgan().impute(x, mask))


@torch.no_grad()
def test_pbigan_imputes_the_decoded_code_of_the_zero_imputed_image(images):
    x, mask = images
    black, keys = torch.where(mask, x, 0), image_keys(x, mask)

    def decoded(model: PBiGAN, noise: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(model.decoder(model.encoder(black, noise)))

    model = pbigan(samples=2)
    draws = [decoded(model, normal(keys, (3,), draw)) for draw in range(2)]
    torch.testing.assert_close(model.impute(x, mask), torch.where(mask, x, sum(draws) / 2))
    middle = pbigan(code="middle", samples=2)
    torch.testing.assert_close(middle.impute(x, mask), torch.where(mask, x, decoded(middle, torch.zeros(6, 3))))


@pytest.mark.parametrize("model", [misgan(samples=4), pbigan(samples=4)], ids=["misgan", "pbigan"])
def test_imputing_does_not_use_the_global_generator(model: Imputer, images: Images):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(model.impute(*images), model.impute(*images))
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(4)
    assert not torch.equal(model.sample(*images, 1), model.sample(*images, 1))


def test_fusion_reaches_both_ends_and_the_sigmoid_does_not():
    logits, code = torch.tensor([-4.0, 0.0, 0.5, 4.0]), torch.zeros(1, 3)
    soft, fused = misgan(mask_output="sigmoid"), misgan()
    for model in (soft, fused):
        model.mask_generator = torch.nn.Linear(3, 4)
        torch.nn.init.zeros_(model.mask_generator.weight)
        model.mask_generator.bias = torch.nn.Parameter(logits)
    s = 1 / (1 + torch.exp(-logits / 0.66))
    torch.testing.assert_close(soft.masks(code)[0], s)
    torch.testing.assert_close(fused.masks(code)[0, 1:3], 1.2 * s[1:3] - 0.1)
    assert fused.masks(code)[0, [0, 3]].tolist() == [0, 1]


def test_a_composite_of_a_hard_mask_takes_every_value_from_one_of_both(images):
    x, mask = images
    assert torch.equal(composite(x, mask.float(), 0.3), torch.where(mask, x, 0.3))
    assert torch.equal(composite(x, mask.float(), 1 - x), torch.where(mask, x, 1 - x))


@pytest.mark.parametrize("model", [misgan(), pbigan()], ids=["misgan", "pbigan"])
def test_images_of_another_size_are_refused(model: Imputer):
    x = torch.rand(2, 2, 4, 4)
    with pytest.raises(LacunaError, match="images of the same size"):
        model.impute(x, x[:, :1] > 0.5)
