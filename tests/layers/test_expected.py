"""Closed-form expected activations against printed values, numerical integration and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, special
from scipy.stats import norm

from lacuna.layers import expected

# reference/misconv.md 3.2: (m, s) -> correct, the authors' code, the paper as printed
PRINTED = [
    (0, 1, 0.3989423, 0.1994711, 0.0997356),
    (1, 1, 1.0833155, 0.9623301, 0.9018374),
    (-1, 1, 0.0833155, -0.0376699, -0.0981626),
    (0.5, 0.2, 0.5004008, 0.4986480, 0.4977716),
    (-0.3, 0.4, 0.0524668, -0.0077607, -0.0378745),
    (0, 0.1, 0.0398942, 0.0199471, 0.0099736),
    (2, 0.5, 2.0000036, 1.9999701, 1.9999534),
]
# the activations themselves, written without torch
PLAIN = {
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "identity": lambda z: z,
    "gelu": lambda z: z * special.ndtr(z),
}
EVERY = {**expected.ACTIVATIONS, **expected.PUBLISHED_RELU}


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_every_activation_is_tested():
    assert PLAIN.keys() == expected.ACTIVATIONS.keys()


@pytest.mark.parametrize(("m", "s", "exact", "authors", "paper"), PRINTED)
def test_printed_values(m, s, exact, authors, paper):
    m, v = double(m), double(s) ** 2
    for formula, value in ((expected.relu, exact), (expected.relu_authors, authors), (expected.relu_paper, paper)):
        assert formula(m, v).item() == pytest.approx(value, abs=5.1e-8)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("m", [-2.0, -0.3, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("s", [0.05, 1.0, 4.0])
def test_agrees_with_numerical_integration(name, m, s):
    def integrand(t: float) -> float:
        return float(PLAIN[name](m + s * t) * norm.pdf(t))

    kink = float(np.clip(-m / s, -12, 12))
    value = sum(integrate.quad(integrand, a, b, epsabs=1e-13, limit=200)[0] for a, b in ((-12, kink), (kink, 12)))
    assert expected.ACTIVATIONS[name](double(m), double(s * s)).item() == pytest.approx(value, abs=1e-11)


def test_slope_of_leaky_relu():
    m, v = double(-1.0, 0.4), double(0.25, 0.09)
    z = m[:, None] + v.sqrt()[:, None] * torch.as_tensor(norm.ppf((np.arange(400_000) + 0.5) / 400_000))
    wanted = torch.nn.functional.leaky_relu(z, 0.2).mean(1)
    torch.testing.assert_close(expected.leaky_relu(m, v, 0.2), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_gradients_in_mean_and_variance(name):
    m = torch.linspace(-2, 2, 9, dtype=torch.float64).repeat(3).requires_grad_()
    v = torch.tensor([0.04, 0.5, 3.0], dtype=torch.float64).repeat_interleave(9).requires_grad_()
    assert torch.autograd.gradcheck(EVERY[name], (m, v))


@pytest.mark.parametrize("name", ["relu", *expected.PUBLISHED_RELU])
@pytest.mark.parametrize("needs", ["m", "v"])
def test_gradient_of_one_argument_alone(name, needs):
    m, v = double(-0.5, 0.0, 0.5), double(0.1, 0.2, 0.3)
    (m if needs == "m" else v).requires_grad_()
    assert torch.autograd.gradcheck(EVERY[name], (m, v))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_variance_gives_the_activation_itself(name, dtype):
    m = torch.tensor([-1e4, -3.0, -0.5, -1e-6, 0.0, 1e-6, 0.5, 3.0, 1e4], dtype=dtype)
    wanted = torch.as_tensor(PLAIN.get(name, PLAIN["relu"])(m.double().numpy())).to(dtype)
    found = EVERY[name](m, torch.zeros_like(m))
    if "relu" in name and name != "leaky_relu":
        assert torch.equal(found, wanted)
    else:
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_without_variance(name, dtype):
    m = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype, requires_grad=True)
    v = torch.zeros(3, dtype=dtype, requires_grad=True)
    of_m, of_v = torch.autograd.grad(EVERY[name](m, v).sum(), (m, v), allow_unused=name == "identity")
    assert of_m.isfinite().all()
    assert of_v is None or of_v.isfinite().all()
    if name == "relu" or name in expected.PUBLISHED_RELU:
        assert of_m.tolist() == [0, 0, 1], "the gradient of ReLU"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expected_relu_is_never_negative_and_at_least_the_relu_of_the_mean(dtype):
    generator = torch.Generator().manual_seed(0)
    m = 50 * torch.randn(100_000, generator=generator, dtype=dtype)
    v = torch.rand(100_000, generator=generator, dtype=dtype).mul(-30).exp() * 100  # 1e-11 to 100
    value = expected.relu(m, v)
    assert value.isfinite().all() and (value >= 0).all()
    assert (value >= m.relu()).all()  # Jensen
    assert (value <= m.relu() + v.sqrt() * 0.3989423).all()


def test_tails_keep_their_relative_accuracy():
    """relu(m) + s L(|m|/s) with the unit normal loss L(t) = phi(t) - t Q(t), about 1e-17 at t = 8."""
    t = np.linspace(-8, 8, 33)
    wanted = np.maximum(t, 0) + norm.pdf(t) - np.abs(t) * norm.sf(np.abs(t))
    found = expected.relu(torch.from_numpy(t), torch.ones(33, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)
    single = expected.relu(torch.from_numpy(t).float(), torch.ones(33)).double().numpy()
    np.testing.assert_allclose(single, wanted, rtol=1e-3, atol=0)


def test_published_formulas_can_be_negative():
    """That is what makes them impossible as expectations; thresholds from reference/baselines.md 5(d)."""
    for formula, threshold in ((expected.relu_paper, -0.24), (expected.relu_authors, -0.61)):
        m = double(threshold - 0.02, threshold + 0.02)
        below, above = formula(m, double(1, 1)).tolist()
        assert below < 0 < above


@pytest.mark.parametrize(("name", "share"), [("paper", 0.25), ("authors", 0.5)])
def test_published_gradients_are_autograds_over_many_scales(name, share):
    """Against the formula written out, at variances over eight decades and means up to 40 standard deviations away."""
    v = torch.logspace(-6, 2, 41, dtype=torch.float64)[:, None].expand(-1, 81).clone().requires_grad_()
    m = (v.detach().sqrt() * torch.linspace(-40, 40, 81, dtype=torch.float64)).requires_grad_()
    s = v.sqrt()
    phi = torch.exp(-0.5 * (m / s) ** 2) / (2 * torch.pi) ** 0.5
    written_out = m * torch.special.ndtr(m / s) + share * s * phi
    found = EVERY[name](m, v)
    torch.testing.assert_close(found, written_out, rtol=1e-12, atol=1e-15)
    wanted = torch.autograd.grad(written_out.sum(), (m, v))
    for a, b in zip(torch.autograd.grad(found.sum(), (m, v)), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_scale():
    """E[f(aZ)] = a E[f(Z)] for the piecewise linear ones."""
    m, v = double(-1, 0, 0.3, 2), double(0.5, 1, 2, 0.1)
    for formula in (expected.relu, expected.leaky_relu, expected.relu_paper, expected.relu_authors):
        torch.testing.assert_close(formula(7 * m, 49 * v), 7 * formula(m, v))


@pytest.mark.parametrize("name", ["relu", *expected.PUBLISHED_RELU])
def test_second_derivatives_are_refused_rather_than_wrong(name):
    m, v = double(0.3).requires_grad_(), double(0.2).requires_grad_()
    (first,) = torch.autograd.grad(EVERY[name](m, v).square(), m, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
