"""adapt(): any CNN on incomplete images; complete images as ever, incomplete ones in expectation."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.layers.adapt import adapt
from lacuna.mfa import MFA
from tests.dense import random_images, random_mask, random_mfa

SHAPE = (3, 8, 8)


class SomeDensity(nn.Module):
    """A density that depends on its input, has a weight, and behaves differently in training mode."""

    def __init__(self, k: int = 2, shape: tuple[int, int, int] = SHAPE) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm2d(shape[0])
        mfa = random_mfa(1, k, 2, shape, dtype=torch.float32)
        for name in ("logits", "mean", "factors", "noise"):
            self.register_buffer(name, getattr(mfa, name))

    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        n = len(observed)
        shift = self.norm(observed).mean((1, 2, 3)).view(-1, 1, 1, 1, 1)
        return MFA(
            self.logits.expand(n, -1),
            self.mean * self.scale + 0.1 * shift,
            self.factors.expand(n, -1, -1, -1, -1, -1) * self.scale,
            self.noise.expand(n, -1, -1, -1, -1),
        )


def small(activation: nn.Module, norm: bool = False) -> nn.Sequential:
    """One first layer and a *linear* body, so that the model of the expectation is the expectation of the model."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=not norm)]
    if norm:
        layers.append(some_statistics(nn.BatchNorm2d(6)))
    return nn.Sequential(*layers, activation, nn.Flatten(), nn.Linear(96, 5)).eval()


def some_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    for tensor in (norm.running_mean, norm.bias):
        nn.init.normal_(tensor, std=0.3)
    for tensor in (norm.running_var, norm.weight):
        nn.init.uniform_(tensor, 0.3, 2)
    return norm


class Functional(nn.Module):
    """As torchvision's older models: activations as functions and methods."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.kind = nn.Conv2d(3, 6, 3), nn.Linear(6 * 36, 5), kind

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.kind == "relu()":
            h = functional.relu(h, inplace=True)
        elif self.kind == "torch.relu":
            h = torch.relu(h)
        elif self.kind == "method":
            h = h.relu_()
        elif self.kind == "gelu()":
            h = functional.gelu(h)
        elif self.kind == "tanh gelu":
            h = functional.gelu(h, approximate="tanh")
        elif self.kind == "leaky":
            h = functional.leaky_relu(h, 0.3)
        elif self.kind == "leaky by name":
            h = functional.leaky_relu(h, negative_slope=0.3)
        elif self.kind == "twice":
            h = h.relu() + h
        elif self.kind == "sum":
            h = torch.add(h, self.fc.weight.sum())
        elif self.kind == "pool":
            h = functional.max_pool2d(h, 1)
        elif self.kind == "branch":
            h = h.relu() if h.sum() > 0 else -h
        return self.fc(h.flatten(1))


MODELS = {
    "relu": lambda: small(nn.ReLU(inplace=True)),
    "leaky_relu": lambda: small(nn.LeakyReLU(0.2)),
    "gelu": lambda: small(nn.GELU()),
    "norm": lambda: small(nn.ReLU(), norm=True),
    "norm, leaky_relu": lambda: small(nn.LeakyReLU(0.1, inplace=True), norm=True),
    "relu()": lambda: Functional("relu()").eval(),
    "torch.relu": lambda: Functional("torch.relu").eval(),
    "method": lambda: Functional("method").eval(),
    "gelu()": lambda: Functional("gelu()").eval(),
    "leaky": lambda: Functional("leaky").eval(),
    "leaky by name": lambda: Functional("leaky by name").eval(),
}


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    return random_images(4, SHAPE).float(), random_mask(4, SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_complete_image_gives_what_the_model_gives(name, images):
    model, everything = MODELS[name](), torch.ones_like(images[1])
    wanted = model(images[0])
    torch.testing.assert_close(adapt(model, SomeDensity())(images[0], everything), wanted)
    torch.testing.assert_close(adapt(model, SomeDensity(), share=False)(images[0], everything), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_incomplete_image_gives_the_expectation(name, images):
    """The bodies are linear, so the adapted model must equal the mean of the model over samples."""
    model, density, n = MODELS[name](), SomeDensity().eval(), 5000
    image, mask = images[0][:2], images[1][:2]
    with torch.no_grad():
        found = adapt(model, density)(image, mask)
        observed = torch.where(mask, image, 0)
        completed = density(observed, mask).pin(observed, mask).sample(n, torch.Generator().manual_seed(0))
        outputs = model(completed.flatten(0, 1)).unflatten(0, (n, 2))
    error = outputs.std(0) / math.sqrt(n)
    assert ((found - outputs.mean(0)).abs() < 4 * error).all()


def test_torchvision_resnet18():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            some_statistics(module)
    model.eval()
    shape = (3, 48, 40)
    image, mask = random_images(2, shape).float(), random_mask(2, shape)
    adapted = adapt(model, SomeDensity(shape=shape)).eval()
    with torch.no_grad():
        wanted = model(image)
        complete, incomplete = adapted(image, torch.ones_like(mask)), adapted(image, mask)
    torch.testing.assert_close(complete, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert incomplete.shape == (2, 7) and incomplete.isfinite().all() and not torch.equal(incomplete, complete)
    adapted.train()
    adapted(image, mask).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("affine", [True, False])
def test_batch_statistics_obey_the_law_of_total_variance(images, affine):
    """In training mode they are the mean and variance of conv(Z) over images, positions and what pixels could be."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=1.0, affine=affine)
    density, n = SomeDensity(3).eval(), 4000
    image, mask = images
    observed = torch.where(mask, image, 0)
    adapted = adapt(nn.Sequential(conv, norm, nn.ReLU()), density).train()
    with torch.no_grad():
        out = adapted(image, mask)
        drawn = density(observed, mask).pin(observed, mask).sample(n, torch.Generator().manual_seed(0))
        features = conv(drawn.flatten(0, 1)).unflatten(0, (n, len(image)))  # (n, B, 6, H', W')
    means = features.mean((1, 3, 4))
    assert norm.num_batches_tracked == 1
    assert ((norm.running_mean - means.mean(0)).abs() < 4 * means.std(0) / math.sqrt(n)).all()
    count = features[0, :, 0].numel()  # running variances are the unbiased ones
    squares = (features - norm.running_mean.view(-1, 1, 1)).square().mean((1, 3, 4)) * count / (count - 1)
    assert ((norm.running_var - squares.mean(0)).abs() < 4 * squares.std(0) / math.sqrt(n)).all()
    # and these statistics are what the features were normalised by
    population = norm.running_var * (count - 1) / count
    white = (features - norm.running_mean.view(-1, 1, 1)) * (population + norm.eps).rsqrt().view(-1, 1, 1)
    expected = white.relu()
    error = expected.std(0) / math.sqrt(n)
    assert ((out - expected.mean(0)).abs() <= 4.5 * error + 1e-3).all()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_statistics_of_complete_images_are_the_usual_ones(images, momentum):
    image, everything = images[0], torch.ones_like(images[1])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=momentum), nn.ReLU()).train()
    adapted = adapt(model, SomeDensity(), share=False).train()
    for _ in range(3):
        torch.testing.assert_close(adapted(image, everything), model(image))
    norm, other = model[1], adapted.block.norm
    torch.testing.assert_close(other.running_mean, norm.running_mean)
    torch.testing.assert_close(other.running_var, norm.running_var)
    assert other.num_batches_tracked == norm.num_batches_tracked == 3


def test_batch_norm_without_running_statistics(images):
    image, everything = images[0], torch.ones_like(images[1])
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU()).eval()
    torch.testing.assert_close(adapt(model, SomeDensity()).eval()(image, everything), model(image))


def test_nothing_depends_on_missing_values(images):
    image, mask = images
    adapted = adapt(MODELS["norm"](), SomeDensity()).eval()
    assert torch.equal(adapted(torch.where(mask, image, float("nan")), mask), adapted(image, mask))


def test_mixed_precision_keeps_the_expectation_in_single_precision(images):
    adapted = adapt(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()).eval(), SomeDensity()).eval()
    image, mask = images
    observed = torch.where(mask, image, 0)
    mfa = adapted.density(observed, mask).pin(observed, mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = adapted.block(mfa)
    assert torch.equal(mixed, adapted.block(mfa))


def test_weights_are_shared_or_copied(images):
    model = MODELS["relu"]()
    shared, copied = adapt(model, SomeDensity()), adapt(model, SomeDensity(), share=False)
    before = copied(*images)
    assert {id(p) for p in model.parameters()} < {id(p) for p in shared.parameters()}
    assert {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in copied.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (shared(*images) == 0).all() and torch.equal(copied(*images), before)


def test_the_model_itself_stays_usable(images):
    model = MODELS["norm"]()
    wanted = model(images[0])
    adapt(model, SomeDensity())
    assert torch.equal(model(images[0]), wanted)


def test_a_frozen_density_is_not_trained(images):
    density = SomeDensity()
    adapted = adapt(MODELS["relu"](), density)
    assert not density.training, "in evaluation mode from the start, not only after .train() or .eval()"
    adapted.train()
    assert adapted.training and not density.training and not density.norm.training
    adapted(*images).sum().backward()
    assert density.scale.grad is None and density.norm.num_batches_tracked == 0
    assert not any(p.requires_grad for p in density.parameters())


def test_a_density_may_be_trained_along(images):
    density = SomeDensity()
    adapt(MODELS["relu"](), density, frozen=False).train()(*images).sum().backward()
    assert density.scale.grad is not None and density.scale.grad.abs() > 0
    assert density.norm.num_batches_tracked == 1


def test_a_plain_function_is_a_density_too(images):
    mfa = random_mfa(1, 2, 2, SHAPE, dtype=torch.float32)
    adapted = adapt(MODELS["relu"](), lambda observed, mask: mfa.condition(observed, mask))
    assert adapted(*images).shape == (4, 5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "the input of Sequential goes into 0, not into an nn.Conv2d"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()), "is followed by '1', which has no closed-form expectation"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(approximate="tanh")), "no closed-form expectation"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)), "is followed by '2'"),
        (Functional("tanh gelu"), "no closed-form expectation"),
        (Functional("sum"), "no closed-form expectation"),
        (Functional("pool"), "no closed-form expectation"),
        (Functional("twice"), "'conv' of Functional is used in 2 places; it must be one"),
        (Functional("branch"), r"adapt\(\) cannot trace Functional .*use MisConv2d directly"),
    ],
    ids=str,
)
def test_mistakes_are_one_clear_sentence(model, message):
    with pytest.raises(LacunaError, match=message) as caught:
        adapt(model, SomeDensity())
    assert "\n" not in str(caught.value)
