"""FlowImputer: the published point estimate, or the mean of samples, which is better in squared error."""

from __future__ import annotations

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.acflow import FlowImputer

SHAPE = (1, 4, 4)


@pytest.fixture
def flow() -> ACFlow:
    torch.manual_seed(0)
    made = ACFlow(SHAPE, {"type": "coupling_net.CouplingNet", "blocks": 1}, scales=2, width=4, levels=16)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made.requires_grad_(False)


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(16, (4, *SHAPE), generator=generator) / 15
    return x, torch.rand(4, 1, 4, 4, generator=generator) > 0.5


def test_estimates_are_the_flow_s(flow, images):
    assert torch.equal(FlowImputer(flow, "latent_zero").impute(*images), flow.point_estimate(*images))
    assert torch.equal(FlowImputer(flow, samples=6).impute(*images), flow.mean(*images, 6))


def test_the_mean_of_samples_has_the_smaller_expected_squared_error(flow, images):
    drawn = FlowImputer(flow).sample(*images, 500)
    errors = [
        (drawn - imputer.impute(*images)).square().mean()
        for imputer in (FlowImputer(flow, samples=200), FlowImputer(flow, "latent_zero"))
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(("settings", "says"), [(("mode",), r"imputer\.estimate='mode'"), ((), "samples")])
def test_impossible_settings_are_refused(flow, settings, says):
    with pytest.raises(LacunaError, match=says):
        FlowImputer(flow, *settings, samples=0)
