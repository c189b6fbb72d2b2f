"""ACFlow: its likelihood is normalised, samples follow it, missing values and the target are never read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.flows.coupling import CheckerCoupling
from lacuna.nets.coupling_net import UnitConv2d

SHAPE = (2, 4, 8)
NET = {"type": "coupling_net.CouplingNet", "blocks": 1}
contexts = pytest.mark.parametrize("context", [False, True], ids=["published", "context"])


def flow(shape: tuple[int, int, int] = SHAPE, seed: int = 0, trained: float = 0.2, **spec: object) -> ACFlow:
    """In float64, with parameters as after some training."""
    torch.manual_seed(seed)
    made = ACFlow(shape, NET, **{"scales": 2, "width": 4, "levels": 16, **spec}).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += trained * torch.randn_like(parameter)
    return made


def images(n: int, levels: int = 16, shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> Tensor:
    """Any grey levels, as stored bytes / 255 would be for 16 levels (17 per level)."""
    level = torch.randint(levels, (n, *shape), generator=torch.Generator().manual_seed(seed))
    return level.double() / (levels - 1)


def regions(n: int, channels: int = 1, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Observed and target thirds; all others are missing."""
    third = torch.randint(3, (n, channels, *SHAPE[1:]), generator=torch.Generator().manual_seed(seed))
    return third == 0, third == 1


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contexts
def test_log_prob_is_the_change_of_variables_from_the_noise_to_the_normal(context):
    """Jacobian of the whole way from noise to latent, by autograd, over the target values."""
    model, x = flow(context=context), images(1)
    observed, target = regions(1)
    wide = target.expand_as(x)
    noise = torch.rand(x.shape, generator=seeded(), dtype=torch.float64)

    def latent(noise: Tensor) -> Tensor:
        values, condition = model._regions(x, observed, target)
        y = torch.where(wide, model.logit.dequantised(values, noise), model._observed_logits(values, condition))
        return model.flow(y, model._with_context(condition, y))[0][wide]

    jacobian = torch.autograd.functional.jacobian(latent, noise)[:, wide]
    expected = torch.linalg.slogdet(jacobian)[1] + torch.distributions.Normal(0, 1).log_prob(latent(noise)).sum()
    torch.testing.assert_close(model.log_prob(x, observed, target, seeded())[0], expected)


@contexts
def test_probabilities_of_a_pixel_s_levels_sum_to_the_normal_s_mass_between_the_ends(context):
    """Integrating over noise and levels is integrating the normal from the lowest logit's latent to the highest's."""
    model = flow((1, 4, 4), context=context, levels=8)
    observed = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    observed[0, 0, 1, 2] = False
    x = images(1, 8, (1, 4, 4)).repeat(8, 1, 1, 1)
    x[:, 0, 1, 2] = torch.arange(8) / 7
    many = x.repeat(1500, 1, 1, 1)
    found = model.log_prob(many, observed.expand_as(many), None, seeded()).exp().view(1500, 8)
    error = found.sum(1).std() / math.sqrt(1500)
    _, condition = model._regions(x[:1], observed, None)
    ends = []
    for level, noise in ((0, 0.0), (7, 1.0)):
        end = model.logit.dequantised(x[level : level + 1], torch.full_like(x[:1], noise))
        y = torch.where(observed, model.logit.centred(x[:1]), end)
        ends.append(model.flow(y, model._with_context(condition, y))[0][0, 0, 1, 2])
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = (normal.cdf(ends[1]) - normal.cdf(ends[0])).abs()
    assert 0.05 < expected < 1
    assert abs(found.sum(1).mean() - expected) < 4.5 * error


@contexts
@pytest.mark.parametrize("trained", [0.0, 0.2, 0.5])
def test_no_flow_codes_uniform_levels_in_less_than_their_entropy(context, trained):
    model, x = flow(context=context, trained=trained), images(3000)
    observed = regions(3000)[0]
    nats = -model.log_prob(x, observed) - math.log(16) * (~observed.expand_as(x)).flatten(1).sum(1)
    assert nats.mean() > -4.5 * nats.std() / math.sqrt(3000)


@contexts
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6, 0.3])
def test_what_is_missing_is_never_read(context, value):
    model, x = flow(context=context, mse_weight=1.0), images(5)
    observed, target = regions(5)
    other = torch.where(observed | target, x, value)
    assert torch.equal(model.log_prob(other, observed, target, seeded()), model.log_prob(x, observed, target, seeded()))
    gradients = []
    for given in (x, other):
        model.zero_grad()
        model.loss(given, observed, target, seeded()).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*gradients, strict=True))


@contexts
@pytest.mark.parametrize("value", [float("nan"), 1e6, 0.3])
def test_target_values_are_not_read_to_impute_them(context, value):
    model, x = flow(context=context), images(5)
    observed = regions(5)[0]
    other = torch.where(observed, x, value)
    for fill in (
        lambda x: model.sample(x, observed, 2, generator=seeded()),
        lambda x: model.point_estimate(x, observed),
        lambda x: model.mean(x, observed, 3),
    ):
        assert torch.equal(fill(other), fill(x))


@contexts
@pytest.mark.parametrize("channels", [1, 2])
def test_imputations_keep_observed_pixels_and_are_zero_where_missing(context, channels):
    model, x = flow(context=context).float(), images(5).float()
    observed, target = regions(5, channels)
    samples = model.sample(x, observed, 3, target, generator=seeded())
    for filled in (*samples, model.point_estimate(x, observed, target), model.mean(x, observed, 4, target)):
        assert filled.min() >= 0 and filled.max() <= 1
        assert torch.equal(filled[observed.expand_as(x)], x[observed.expand_as(x)])
        assert (filled[~(observed | target).expand_as(x)] == 0).all()
    assert not torch.equal(samples[0], samples[1])
    torch.testing.assert_close(samples * 15, (samples * 15).round())  # grey levels
    assert torch.equal(samples, model.sample(x, observed, 3, target, generator=seeded()))


@contexts
def test_decoding_is_the_inverse_of_log_prob(context):
    model, x = flow(context=context), images(4)
    observed, _ = regions(4)
    z = torch.randn(x.shape, dtype=torch.float64)
    y = model.decode(z, x, observed)
    _, condition = model._regions(x, observed, None)
    back = model.flow(y, model._with_context(condition, y))[0]
    wide = observed.expand_as(x)
    torch.testing.assert_close(back[~wide], z[~wide])
    torch.testing.assert_close(y[wide], model.logit.centred(x)[wide])


def test_samples_have_the_latent_s_temperature():
    model, x = flow(), images(3)
    observed, _ = regions(3)
    cold = model.sample(x, observed, 5, temperature=0.0)
    estimate = torch.where(observed, x, (model.point_estimate(x, observed) * 15).round() / 15)
    torch.testing.assert_close(cold, estimate.expand_as(cold))
    spread = [model.sample(x, observed, 300, temperature=t, generator=seeded()).std(0).mean() for t in (0.3, 1.0)]
    assert spread[0] < 0.7 * spread[1]


@contexts
def test_the_mean_is_that_of_samples_is_not_random_and_each_image_s_own(context, monkeypatch):
    model, x = flow(context=context), images(4)
    observed, _ = regions(4)
    drawn = model.sample(x, observed, 1000, generator=seeded())
    mean = model.mean(x, observed, 1000)
    error = drawn.std(0) * math.sqrt(2 / 1000)
    assert ((mean - drawn.mean(0)).abs() <= 5 * error + 0.1 / 15).all()  # samples are rounded to levels, these are not
    few = model.mean(x, observed, 5)
    assert torch.equal(few, model.mean(x, observed, 5))
    torch.testing.assert_close(model.mean(x[2:3], observed[2:3], 5), few[2:3])
    monkeypatch.setattr("lacuna.flows.acflow.SAMPLING_BATCH", 8)
    torch.testing.assert_close(model.mean(x, observed, 5), few)


def test_padding_is_black_and_observed():
    padded, model = flow((2, 2, 6), pad=1), flow()
    x, observed = images(3, shape=(2, 2, 6)), torch.rand(3, 1, 2, 6, generator=seeded()) > 0.5
    frame = torch.nn.functional.pad
    wide_x, wide_observed = frame(x, (1,) * 4), frame(observed, (1,) * 4, value=True)
    torch.testing.assert_close(
        padded.point_estimate(x, observed), model.point_estimate(wide_x, wide_observed)[..., 1:-1, 1:-1]
    )
    expected = model.log_prob(wide_x, wide_observed, None, seeded())
    torch.testing.assert_close(padded.log_prob(x, observed, None, seeded()), expected)
    assert padded.sample(x, observed, 2).shape == (2, *x.shape)
    assert padded.mean(x, observed, 2).shape == x.shape


@contexts
def test_complete_and_empty_images(context):
    model, x = flow(context=context), images(3)
    all_of_it = torch.ones(3, 1, *SHAPE[1:], dtype=torch.bool)
    assert torch.equal(model.log_prob(x, all_of_it), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(model.sample(x, all_of_it, 2), x.expand(2, *x.shape))
    assert model.log_prob(x, ~all_of_it).isfinite().all()
    assert model.log_prob(x, ~all_of_it, ~all_of_it).abs().max() == 0


def test_the_loss_is_nats_per_image_and_the_published_penalty():
    model, x = flow(decay=0.01), images(5)
    observed, target = regions(5)
    by_hand = torch.zeros((), dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, UnitConv2d) and module.gain is not None:
            by_hand += module.gain.square().sum()
        if isinstance(module, CheckerCoupling):  # not of the channel couplings, as published
            by_hand += module.alpha.square()
    expected = -model.log_prob(x, observed, target, seeded()).mean() + 0.01 * by_hand
    torch.testing.assert_close(model.loss(x, observed, target, seeded()), expected)


def test_the_loss_with_the_squared_error_of_the_point_estimate():
    plain, model, x = flow(), flow(mse_weight=3.0), images(5)
    observed, target = regions(5)
    errors = ((model.point_estimate(x, observed, target) - x) * target).square().sum() / 5
    expected = plain.loss(x, observed, target, seeded()) + 3 * errors
    torch.testing.assert_close(model.loss(x, observed, target, seeded()), expected)


def test_half_precision_networks_keep_the_likelihood_in_single_precision():
    model, x = flow(context=True).float(), images(20).float()
    observed, _ = regions(20)
    exact = model.log_prob(x, observed, None, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        found = model.log_prob(x, observed, None, seeded())
        filled = model.point_estimate(x, observed)
    assert found.dtype == torch.float32 and filled.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.02, atol=2.0)
    assert not torch.equal(found, exact)


@pytest.mark.slow
def test_the_published_mnist_flow_inverts_in_single_precision():
    torch.manual_seed(0)
    model = ACFlow((1, 28, 28), {**NET, "blocks": 2}, scales=4, width=32, pad=2)
    x, observed = torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28) > 0.5
    z = torch.randn(2, *model.latent_shape)
    with torch.no_grad():
        _, condition = model._regions(x, observed, None)
        target = condition.target > 0
        y, _ = model.flow.inverse(torch.where(target, z, 0), condition)
        back, _ = model.flow(y, condition)
    assert (back - z)[target].abs().max() < 1e-5


def test_it_learns_that_one_half_mirrors_the_other():
    """Given the left half, the right half of 16 equally likely levels is known: far below log 16 = 2.77 nats."""
    torch.manual_seed(0)
    model = ACFlow((1, 4, 4), NET, scales=1, width=16, levels=16)
    left = torch.randint(16, (128, 1, 4, 2)) / 15
    x = torch.cat([left, left.flip(3)], 3)
    observed = torch.zeros(128, 1, 4, 4, dtype=torch.bool)
    observed[..., :2] = True
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = -model.log_prob(x, observed).mean() / 8
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(x, observed, ~observed).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
    after = -model.log_prob(x, observed).mean() / 8
    assert before > 2.7 and after < 2.0
    assert (model.mean(x, observed, 8) - x).square().mean() < 0.25 * x[:, :, :, 2:].var()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"scales": 4}, r"flow\.scales=4 needs images whose sides are multiples of 8, not 4x8: pad them .* flow\.pad"),
        ({"scales": 0}, r"flow\.scales=0 must be"),
        ({"pad": -1}, r"flow\.pad=-1 must be"),
        ({"decay": -1.0}, r"flow\.decay=-1\.0 and flow\.mse_weight=0\.0 must not be negative"),
    ],
)
def test_impossible_settings_are_refused(spec, says):
    with pytest.raises(LacunaError, match=says):
        flow(**spec)
