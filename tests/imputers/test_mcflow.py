"""MCFlow's imputer: its stages, how they are kept for new images, and the density of a reconstruction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.linear import Linear
from lacuna.imputers.mcflow import MCFlow

SHAPE = (1, 5, 4)


def flow(couplings: int = 6, widths: tuple[int, ...] | None = (7,)) -> dict[str, object]:
    return {"type": "realnvp.RealNVP", "couplings": couplings, "widths": widths}


def net(*widths: int, residual: bool = False) -> dict[str, object]:
    return {"type": "latent_net.DenseLatent", "widths": widths, "residual": residual}


def made(seed: int = 0, **arguments: object) -> MCFlow:
    torch.manual_seed(seed)
    model = MCFlow(SHAPE, **{"flow": flow(), "net": net(9, 6), **arguments})  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # far from the identity
    return model


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(n, 1, *SHAPE[1:], generator=generator) > 0.6
    return torch.where(mask, torch.rand(n, *SHAPE, generator=generator), 0), mask


def carried(model: MCFlow, stages: int) -> Tensor:
    """Images imputed along with the training, as the published code does with its test images."""
    observed, mask = images()
    x = model.initial_imputation(observed, mask)
    for stage in range(stages):
        x = model.advance(x, observed, mask)
        model.end_stage()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(stage)))
    return model.advance(x, observed, mask)


def test_new_images_pass_through_every_stage() -> None:
    model = made()
    assert torch.equal(carried(model, 3), model.impute(*images())) and len(model.stages) == 3
    rounded = made(replay="bfloat16")
    assert (carried(rounded, 3) - rounded.impute(*images())).abs().mean() < 0.01
    assert rounded.stages.dtype == torch.bfloat16


def test_without_replay_only_the_last_stage_is_applied() -> None:
    model = made(replay="none", inference_passes=3)
    found = carried(model, 2)
    assert model.stages.numel() == 0
    observed, mask = images()
    x = model.initial_imputation(observed, mask)
    for _ in range(3):
        with torch.no_grad():
            image = model.reconstruct(x).image
        x = torch.where(mask, observed, image.clamp(0, 1))
    assert torch.equal(model.impute(observed, mask), x) and not torch.equal(found, x)


def test_a_new_stage_resets_the_flow_in_the_same_tensors() -> None:
    model = made()
    before = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    model.end_stage()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in ("stages", "coupling_masks"):
            continue
        same, value = before[name]
        assert same is tensor  # optimisers hold it
        assert torch.equal(tensor, value) == name.startswith("net."), name
    assert all(weight.requires_grad for weight in model.parameters())
    masks = [coupling.mask for coupling in model.flow.couplings]
    assert all(torch.equal(masks[i], ~masks[i + 1]) for i in (0, 2, 4))


def test_a_stage_can_end_without_a_reset_of_the_flow() -> None:
    model = made()
    before = {name: tensor.clone() for name, tensor in model.flow.state_dict().items()}
    model.end_stage(reset_flow=False)
    assert len(model.stages) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.flow.state_dict().items())


@pytest.mark.parametrize("kind", ["DenseLatent", "ConvolutionalLatent"])
def test_a_residual_network_begins_with_the_current_imputation(kind: str) -> None:
    sizes = {"widths": [6]} if kind == "DenseLatent" else {"width": 4, "blocks": 1}
    model = MCFlow(SHAPE, flow=flow(), net={"type": f"latent_net.{kind}", "residual": True, **sizes}).double()
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(model.reconstruct(x).image, x)
    for weight in model.net.parameters():
        weight.grad = None
    model.reconstruct(x).image.square().sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.net.parameters())
    published = MCFlow(SHAPE, flow=flow(), net=net(6)).double()
    assert (published.reconstruct(x).image - x).abs().mean() > 0.2  # of latent values near zero


def test_its_state_holds_the_stages() -> None:
    model = made()
    carried(model, 2)
    fresh = made(seed=9)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.impute(*images()), model.impute(*images()))


def test_the_reconstruction_comes_with_its_density_which_is_bounded() -> None:
    model = made().double()
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    found = model.reconstruct(x)
    torch.testing.assert_close(found.log_prob, model.flow.log_prob(found.image), atol=1e-9, rtol=1e-9)
    z = model.flow(x)[0]
    torch.testing.assert_close(found.image, model.flow.inverse(model.net(z))[0])
    with torch.no_grad():
        for weight in model.flow.parameters():
            weight.mul_(100)
    assert (-model.reconstruct(x).log_prob >= -20 * 2.0811).all()  # of 6 couplings


def test_the_initial_imputation_is_another_imputers() -> None:
    observed, mask = images()
    model = made(initial={"type": "linear.Linear"})
    assert torch.equal(model.initial_imputation(observed, mask), Linear().impute(observed, mask))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"replay": "float16"}, "imputer.replay"),
        ({"inference_passes": 0}, "imputer.inference_passes"),
        ({"initial": {"type": "gaussian.Gaussian"}}, "imputer.initial.type"),
        ({"flow": flow(couplings=3)}, "couplings"),
        ({"flow": {"type": "coupling.CheckerCoupling"}}, "flow"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(LacunaError, match=words):
        made(**arguments)


def test_sizes_as_published() -> None:
    """29 541 120 + 3 077 200 for MNIST; PRFlow's network 2 461 760."""
    with torch.device("meta"):
        mnist = MCFlow((1, 28, 28))
        colour = MCFlow((3, 32, 32), net=net(*[1024] * 3))
        prflow = MCFlow((1, 28, 28), net=net(*[784] * 3))
    count = [sum(w.numel() for w in net.parameters()) for net in (mnist.flow, mnist.net, prflow.net)]
    assert count == [29_541_120, 3_077_200, 2_461_760]
    assert sum(w.numel() for w in colour.flow.parameters()) == 453_132_288
    assert sum(w.numel() for w in colour.net.parameters()) == 8_394_752
