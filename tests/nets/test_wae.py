"""The auto-encoders of appendix A.3: layers as printed, sizes as the authors' code has them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.nets.wae import WAE
from lacuna.registry import build
from tests.runs.real import config

SHAPES = {"wae_mnist": (1, 28, 28), "wae_svhn": (3, 32, 32), "wae_celeba64": (3, 64, 64), "wae_digits": (1, 8, 8)}
AUTHORS = {f"{choice}_authors": shape for choice, shape in SHAPES.items() if choice != "wae_digits"}


def made(choice: str, **changes: object) -> WAE:
    """The configured net behind a stem of 32 filters, without memory."""
    shape = (SHAPES | AUTHORS)[choice]
    with torch.device("meta"):
        net: WAE = build("net", {**config(f"net={choice}")["net"], **changes}, filters=32, size=shape[1:], shape=shape)
    return net


def layers(module: nn.Module) -> list[str]:
    """Layers in the words of the appendix: conv (with ReLU and batch normalisation or at the end), down, up, lin."""
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            found.append("up")
        elif isinstance(layer, nn.Conv2d):
            found.append("down" if layer.stride == (2, 2) else f"conv{layer.out_channels}")
        elif isinstance(layer, nn.Linear):
            found.append(f"lin{layer.out_features}")
    return found


def times(count: int, *names: str) -> list[str]:
    return list(names) * count


# encoder (without the convolution of its conv32, which is the stem), decoder, discriminator, as printed
PRINTED = {
    "wae_mnist": (
        ["conv40", "down", "conv80", "down", "lin20"],
        ["lin3920", "up", "conv80", "up", *times(2, "conv40"), "conv1"],
        [*times(4, "lin64"), "lin1"],
    ),
    "wae_svhn": (
        [*times(2, "conv96"), "down", *times(2, "conv192"), "down", "lin20"],
        ["lin12288", "up", *times(2, "conv192"), "up", *times(3, "conv96"), "conv3"],
        [*times(4, "lin64"), "lin1"],
    ),
    # of CelebA's the halvings and doublings are left out in print
    "wae_celeba64": (
        [*times(4, "conv64"), *times(4, "conv128"), *times(4, "conv256"), *times(4, "conv512"), "lin64"],
        ["lin8192", *times(4, "conv512"), *times(4, "conv256"), *times(4, "conv128"), *times(5, "conv64"), "conv3"],
        [*times(4, "lin512"), "lin1"],
    ),
}


@pytest.mark.parametrize("choice", PRINTED)
def test_the_papers_layers(choice):
    net = made(choice)
    parts = [layers(part) for part in (net.encoder, net.decoder, net.discriminator)]
    if choice == "wae_celeba64":
        assert parts[0].count("down") == parts[1].count("up") == 4
        parts = [[layer for layer in part if layer not in ("down", "up")] for part in parts]
    assert tuple(parts) == PRINTED[choice]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("wae_mnist_authors", (205_660, 212_681, 13_889)),
        ("wae_svhn_authors", (1_353_812, 1_423_683, 13_889)),
        ("wae_celeba64_authors", (14_674_240, 14_701_187, 821_761)),
    ],
)
def test_the_authors_networks_have_their_sizes(choice, expected):
    """Counted from the authors' code, without the first layer."""
    assert sizes(made(choice)) == expected


def sizes(net: WAE) -> tuple[int, ...]:
    parts = (net.encoder, net.decoder, net.discriminator)
    return tuple(sum(p.numel() for p in part.parameters()) for part in parts)


def by_hand(printed: list[str], channels: int, bottom: tuple[int, int]) -> int:
    """Weights of a printed list behind ``channels``; ``bottom``: (side, filters) where it becomes or leaves a code.

    A conv has 9 weights a pair of channels, a bias, and a scale and a shift of its batch normalisation.
    """
    total, width = 0, channels
    for number, layer in enumerate(printed):
        filters = int("".join(digit for digit in layer if digit.isdigit()) or width)
        if layer.startswith("lin"):
            wide = bottom[0] ** 2 * bottom[1] if number and bottom[0] else width  # flattened
            total += wide * filters + filters
            width = bottom[1] if bottom[0] else filters
        else:
            last = layer.startswith("conv") and number == len(printed) - 1  # the image: no normalisation
            total += 9 * width * filters + filters + (2 * filters if layer.startswith("conv") and not last else 0)
            width = filters
    return total


@pytest.mark.parametrize(("choice", "bottom"), [("wae_mnist", (7, 80)), ("wae_svhn", (8, 192))])
def test_the_papers_networks_have_the_sizes_of_their_lists(choice, bottom):
    encoder, decoder, discriminator = PRINTED[choice]
    stem = 2 * 32  # of the printed conv32 what is not the stem's: scale and shift
    wanted = (by_hand(encoder, 32, bottom) + stem, by_hand(decoder, 20, bottom), by_hand(discriminator, 20, (0, 0)))
    assert sizes(made(choice)) == wanted
    if choice == "wae_mnist":  # on paper
        assert wanted == (191_284, 299_321, 13_889)


def test_the_papers_blocks_are_whole():
    """A conv is convolution, ReLU, normalisation, also where the first two are the stem's; a lin inside has a ReLU."""
    for choice in ("wae_mnist", "wae_svhn", "wae_celeba64"):
        net = made(choice)
        assert isinstance(net.encoder[0], nn.BatchNorm2d) and net.encoder[0].num_features == 32
        assert isinstance(net.encoder[-1], nn.Linear) and isinstance(net.discriminator[-1], nn.Linear)
        assert isinstance(net.decoder.layers[1], nn.ReLU)
        authors = made(f"{choice}_authors")
        assert isinstance(authors.encoder[0], nn.Conv2d) and isinstance(authors.encoder[-3], nn.ReLU)
        assert isinstance(authors.decoder.layers[1], nn.ReLU)


def test_the_papers_encoder_is_invariant_to_the_scale_of_the_stem():
    torch.manual_seed(0)
    features = torch.rand(6, 5, 8, 8)
    for variant, same in (("paper", True), ("authors", False)):
        net = WAE(5, (8, 8), (1, 8, 8), 4, [[6, 1], [7, 1]], [9], variant)
        codes = [net.encode(scale * features).detach() for scale in (1.0, 50.0)]
        assert torch.allclose(codes[0], codes[1], atol=1e-2) == same


@pytest.mark.parametrize(
    ("choice", "epochs", "batch", "lr", "discriminator_lr"),
    [
        ("wae_mnist", 20, 128, 4e-4, 4e-6),
        ("wae_svhn", 50, 64, 4e-4, 4e-6),
        ("wae_celeba64", 50, 16, 1e-4, 2.5e-6),
    ],
)
def test_the_papers_optimisation(choice, epochs, batch, lr, discriminator_lr):
    training = config(f"net={choice}")["net"]["training"]
    found = [training[key] for key in ("epochs", "batch_size", "lr", "discriminator_lr")]
    assert found == [epochs, batch, lr, discriminator_lr]
    # the printed rate is the authors' rate times the weight of their adversarial loss
    assert training["adversarial_weight"] == pytest.approx(discriminator_lr / lr)
    # which one Adam does not feel: theirs was the encoder's
    effective = config(f"net={choice}_authors")["net"]["training"]
    assert effective["discriminator_lr"] == effective["lr"] == lr and effective["epochs"] == epochs
    assert effective["batch_size"] == {"wae_celeba64": 24}.get(choice, batch)
    assert (effective["reconstruction"], training["reconstruction"]) == ("authors", "observed")


def test_every_config_is_tested():
    assert {choice for choice in CONFIGS.options("net") if choice.startswith("wae")} == (SHAPES | AUTHORS).keys()


@pytest.mark.parametrize("variant", ["paper", "authors"])
@pytest.mark.parametrize(("size", "stages"), [((8, 8), 2), ((7, 9), 2), ((5, 13), 3), ((1, 1), 1), ((28, 28), 3)])
def test_any_size_of_images(variant, size, stages):
    torch.manual_seed(0)
    net = WAE(5, size, (3, *size), 4, [[6, 1], [7, 2], [8, 1]][:stages], [9], variant)
    features = torch.rand(3, 5, *size)
    image = net(features)
    assert image.shape == (3, 3, *size) and ((image > 0) & (image < 1)).all()
    assert net.encode(features).shape == (3, 4) and net.discriminate(torch.randn(3, 4)).shape == (3,)
    assert torch.equal(net.eval()(features), net.decode(net.encode(features)))


def test_a_stem_may_shrink_the_image():
    net = WAE(5, (6, 7), (1, 8, 9), 4, [[6, 1], [7, 1]], [9])
    assert net(torch.rand(2, 5, 6, 7)).shape == (2, 1, 8, 9)


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_every_weight_is_trained_by_its_own_loss(variant):
    torch.manual_seed(0)
    net = WAE(5, (8, 8), (1, 8, 8), 4, [[6, 1], [7, 2]], [9, 9], variant)
    features = torch.rand(3, 5, 8, 8)

    def trained(loss: Tensor) -> set[str]:
        net.zero_grad(set_to_none=True)
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
        return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}

    assert trained(net(features).square().sum()) == {"encoder", "decoder"}
    net(features).square().sum().backward()
    everything = set(dict(net.named_parameters()))
    own = {name for name, p in net.named_parameters() if p.grad is not None}
    assert own == {name for name in everything if not name.startswith("discriminator")}
    assert trained(net.discriminate(net.encode(features).detach()).sum()) == {"discriminator"}
    assert trained(net.discriminate(net.encode(features)).sum()) == {"encoder", "discriminator"}


def test_discriminator_and_auto_encoder_can_each_be_trained_alone():
    """The discriminator alone learns to separate codes from the prior, encoder and decoder alone to reconstruct."""
    torch.manual_seed(0)
    features = torch.randn(16, 4, 8, 8)
    images = torch.rand(16, 1, 8, 8)
    net = WAE(4, (8, 8), (1, 8, 8), 6, [[16, 1]], [32, 32])
    coder = torch.optim.Adam([*net.encoder.parameters(), *net.decoder.parameters()], lr=3e-3)
    critic = torch.optim.Adam(net.discriminator.parameters(), lr=3e-3)

    def told_apart() -> Tensor:
        true, false = net.discriminate(torch.randn(256, 6)), net.discriminate(net.encode(features).detach())
        right = functional.binary_cross_entropy_with_logits(true, torch.ones_like(true))
        return right + functional.binary_cross_entropy_with_logits(false, torch.zeros_like(false))

    def missed() -> Tensor:
        return (net(features) - images).square().mean()

    before = missed().item(), told_apart().item()
    for _ in range(150):
        critic.zero_grad()
        told_apart().backward()
        critic.step()
    assert told_apart().item() < 0.5 * before[1]
    for _ in range(150):
        coder.zero_grad()
        missed().backward()
        coder.step()
    assert missed().item() < 0.5 * before[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "best"}, "net.variant='best' is neither 'paper' nor 'authors'"),
        ({"latent": 0}, "net.latent=0 must be a whole number of at least 1"),
        ({"stages": []}, r"net.stages=\[\] needs one or more"),
        ({"stages": [[4]]}, r"net.stages\[0\]=\[4\] must be"),
        ({"discriminator": [64, 0]}, r"net.discriminator=\[64, 0\] must be a list"),
    ],
)
def test_values_out_of_range_are_refused(arguments, said):
    with pytest.raises(LacunaError, match=said):
        WAE(4, (8, 8), (1, 8, 8), **arguments)
