"""The laws of every imputer. A new method is one line in IMPUTERS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lacuna.densities.dmfa import DMFA
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.acflow import FlowImputer
from lacuna.imputers.base import Imputer
from lacuna.imputers.density_mean import DensityMean
from lacuna.imputers.gaussian import Gaussian
from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.knn import KNN
from lacuna.imputers.linear import Linear
from lacuna.imputers.mcflow import MCFlow
from lacuna.imputers.misgan import MisGAN
from lacuna.imputers.nearest import Nearest, RingNearest
from lacuna.imputers.pbigan import PBiGAN
from lacuna.imputers.regression import Regression
from lacuna.imputers.simple import Mean, Zero
from tests.laws.guard import assert_all_listed

SHAPE = (2, 8, 8)


def density() -> DMFA:
    """An untrained mixture."""
    torch.manual_seed(0)
    return DMFA(SHAPE, {"type": "density_net.LinearHeads", "filters": [4, 4], "kernels": [3, 3]}, components=2)


def misgan(nets: str, widths: tuple[int, ...], imputer: tuple[int, ...], samples: int = 1) -> MisGAN:
    """An untrained one."""
    torch.manual_seed(0)
    return MisGAN(SHAPE, nets=nets, latent=4, widths=widths, imputer_widths=imputer, samples=samples)


def pbigan(nets: str, widths: tuple[int, ...], code: str = "sampled") -> PBiGAN:
    """An untrained one."""
    torch.manual_seed(0)
    return PBiGAN(SHAPE, nets=nets, latent=4, widths=widths, iaf_hidden=8, code=code)


def flow() -> ACFlow:
    """An untrained flow."""
    torch.manual_seed(0)
    return ACFlow(SHAPE, {"type": "coupling_net.CouplingNet", "blocks": 1}, scales=2, width=4, context=True)


def staged(replay: str = "float32") -> MCFlow:
    """Untrained, in its second stage."""
    torch.manual_seed(0)
    dense = {"type": "realnvp.RealNVP", "couplings": 2, "widths": [8]}
    model = MCFlow(SHAPE, flow=dense, net={"type": "latent_net.DenseLatent", "widths": [8]}, replay=replay)
    model.end_stage()
    return model


def convolutional() -> MCFlow:
    """With our flow and network."""
    torch.manual_seed(0)
    layout = {"type": "convolutional.ConvolutionalRealNVP", "scales": 2, "width": 4}
    model = MCFlow(SHAPE, flow=layout, net={"type": "latent_net.ConvolutionalLatent", "width": 4, "blocks": 1})
    model.end_stage()
    return model


def regression() -> Regression:
    """An untrained network."""
    torch.manual_seed(0)
    return Regression(SHAPE, {"type": "residual_net.ResidualUNet", "stages": [[4, 1], [6, 1]]})


# name -> a new, unfitted imputer for images of SHAPE
IMPUTERS: dict[str, Callable[[], Imputer]] = {
    "zero": Zero,
    "mean": Mean,
    "knn": KNN,
    "knn-float64": lambda: KNN(k=3, dtype="float64"),
    "knn-shared": lambda: KNN(k=3, ties="shared"),
    "knn-complete": lambda: KNN(complete_donors=True),
    "knn-published": lambda: KNN(published=True),
    "nearest": Nearest,
    "ring": RingNearest,
    "linear": Linear,
    "harmonic": lambda: Harmonic(1),
    "biharmonic": Harmonic,
    "gaussian": Gaussian,
    "gaussian-ridge": lambda: Gaussian(ridge=0.01),
    "density-mean": lambda: DensityMean(density()),
    "density-mode": lambda: DensityMean(density(), "mode"),
    "acflow-mean": lambda: FlowImputer(flow(), samples=4),
    "acflow-zero": lambda: FlowImputer(flow(), "latent_zero"),
    "mcflow": staged,
    "mcflow-last": lambda: staged("none"),
    "mcflow-convolutional": convolutional,
    "regression": regression,
    "misgan": lambda: misgan("dense", (8, 8), (8,)),
    "misgan-colour": lambda: misgan("colour", (4,), (4, 8), samples=3),
    "pbigan": lambda: pbigan("dense", (8, 8)),
    "pbigan-colour": lambda: pbigan("colour", (4,)),
    "pbigan-middle": lambda: pbigan("dense", (8, 8), "middle"),
}
# those of IMPUTERS that can
SAMPLERS: tuple[str, ...] = (
    *("density-mean", "density-mode", "acflow-mean", "acflow-zero"),
    *("misgan", "misgan-colour", "pbigan", "pbigan-colour", "pbigan-middle"),
)


def test_every_imputer_is_here() -> None:
    made = {name: new() for name, new in IMPUTERS.items()}
    assert_all_listed(Imputer, made.values(), "IMPUTERS in tests/laws/test_imputers.py")
    able = {name for name, imputer in made.items() if type(imputer)._sample is not Imputer._sample}
    assert able == set(SAMPLERS), "SAMPLERS in tests/laws/test_imputers.py are those that can draw"


def images(n: int, seed: int) -> Tensor:
    """Smooth 8-bit images (n, *SHAPE)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, SHAPE[0], 3, 3, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")
    return (fine * 255).round() / 255


def holes(n: int, seed: int, channels: int = 1) -> Tensor:
    """Masks with 60 % missing at random; the first pixel is always observed."""
    mask = torch.rand(n, channels, *SHAPE[1:], generator=torch.Generator().manual_seed(seed)) > 0.6
    mask[..., 0, 0] = True
    return mask


@pytest.fixture(params=IMPUTERS)
def imputer(request: pytest.FixtureRequest) -> Imputer:
    made = IMPUTERS[request.param]()
    donors_mask = holes(50, seed=2)
    made.fit(images(50, seed=1), torch.ones_like(donors_mask) if made.complete_donors else donors_mask)
    return made.eval()


@pytest.mark.parametrize("channels", [1, SHAPE[0]])
def test_observed_pixels_survive_and_the_rest_is_an_image(imputer: Imputer, channels: int) -> None:
    truth, mask = images(9, 3), holes(9, 4, channels)
    filled = imputer.impute(truth, mask)
    assert filled.shape == truth.shape and filled.dtype == truth.dtype
    everywhere = mask.expand_as(truth)
    assert torch.equal(filled[everywhere], truth[everywhere])
    assert filled.min() >= 0 and filled.max() <= 1


def test_missing_values_are_never_read(imputer: Imputer) -> None:
    truth, mask = images(9, 3), holes(9, 4)
    expected = imputer.impute(truth, mask)
    for hidden in (0.0, 1e6, float("nan"), float("inf")):
        assert torch.equal(imputer.impute(torch.where(mask, truth, hidden), mask), expected)


def test_missing_values_of_training_images_are_never_read(imputer: Imputer) -> None:
    if not imputer.needs_fit or imputer.complete_donors:
        pytest.skip("is not fitted on incomplete images")
    truth, mask, donors, donors_mask = images(9, 3), holes(9, 4), images(50, 1), holes(50, 2)
    expected = imputer.impute(truth, mask)
    for hidden in (1e6, float("nan")):
        imputer.fit(torch.where(donors_mask, donors, hidden), donors_mask)
        assert torch.equal(imputer.impute(truth, mask), expected)


def test_images_of_a_batch_do_not_matter_to_each_other(imputer: Imputer) -> None:
    truth, mask = images(9, 3), holes(9, 4)
    expected = imputer.impute(truth, mask)
    parts = [imputer.impute(truth[part], mask[part]) for part in (slice(0, 1), slice(1, 6), slice(6, 9))]
    assert torch.allclose(torch.cat(parts), expected, atol=1e-6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(imputer.impute(truth[order], mask[order]), expected[order], atol=1e-6)


def test_complete_image_is_unchanged(imputer: Imputer) -> None:
    truth = images(3, 5)
    assert torch.equal(imputer.impute(truth, torch.ones(3, 1, *SHAPE[1:], dtype=torch.bool)), truth)


def test_image_without_any_observed_pixel_is_imputed(imputer: Imputer) -> None:
    filled = imputer.impute(torch.zeros(2, *SHAPE), torch.zeros(2, 1, *SHAPE[1:], dtype=torch.bool))
    assert filled.isfinite().all()


def test_state_dict_holds_everything(imputer: Imputer, request: pytest.FixtureRequest) -> None:
    truth, mask = images(9, 3), holes(9, 4)
    fresh = IMPUTERS[request.node.callspec.params["imputer"]]().eval()
    fresh.load_state_dict(imputer.state_dict())
    assert torch.equal(fresh.impute(truth, mask), imputer.impute(truth, mask))


def test_channels_last_changes_nothing(imputer: Imputer) -> None:
    truth, mask = images(9, 3), holes(9, 4)
    last = imputer.impute(truth.to(memory_format=torch.channels_last), mask)
    assert torch.allclose(last, imputer.impute(truth, mask), atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS or [pytest.param("", marks=pytest.mark.skip(reason="no sampler yet"))])
def test_samples_keep_observed_pixels_and_differ(name: str) -> None:
    sampler = IMPUTERS[name]().eval()
    sampler.fit(images(50, 1), holes(50, 2))
    truth, mask = images(4, 3), holes(4, 4)
    drawn = sampler.sample(truth, mask, 3)
    assert drawn.shape == (3, *truth.shape)
    assert drawn.min() >= 0 and drawn.max() <= 1
    everywhere = mask.expand_as(truth)
    assert all(torch.equal(one[everywhere], truth[everywhere]) for one in drawn)
    assert not torch.equal(drawn[0], drawn[1])
