"""MisGAN's and P-BiGAN's networks: the published sizes, counted by hand, and the autoregressive structure of a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacuna.errors import LacunaError
from lacuna.nets.gan import Critic, DenseImputer, Generator, UNet, body, check_kind
from lacuna.nets.iaf import IAFStep
from lacuna.nets.pbigan import Encoder, PairCritic

WIDTHS = (64, 128, 256)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def linear(before: int, after: int) -> int:
    return before * after + after


def conv(before: int, after: int, kernel: int, bias: bool = True) -> int:
    return before * after * kernel**2 + bias * after


MNIST_BODY = conv(1, 64, 5) + conv(64, 128, 5) + conv(128, 256, 5)
COLOUR_BODY = conv(3, 64, 5) + conv(64, 128, 5) + 2 * 128 + conv(128, 256, 5) + 2 * 256
IAF = linear(128, 256) + linear(128, 256) + linear(256, 256) + linear(256, 256) + 1


def test_the_published_sizes_of_mnist():
    generator = Generator("mnist", (1, 28, 28), 128, WIDTHS)
    assert count(generator) == linear(128, 4096) + conv(256, 128, 5) + conv(128, 64, 5) + conv(64, 1, 8)
    assert generator(torch.zeros(3, 128)).shape == (3, 1, 28, 28)
    assert count(Critic("mnist", (1, 28, 28), WIDTHS)) == MNIST_BODY + linear(4096, 1)
    assert count(DenseImputer((1, 28, 28), (784, 784, 784))) == 4 * linear(784, 784)
    encoder = Encoder("mnist", (1, 28, 28), 128, WIDTHS)
    assert count(encoder) == MNIST_BODY + linear(4096, 384) + 2 * 384 + linear(384, 384) + 2 * IAF
    pairs = linear(4096, 64) + linear(128, 64) + 2 * 64 + linear(64, 64) + linear(128, 64) + 2 * 64 + linear(64, 1)
    assert count(PairCritic("mnist", (1, 28, 28), 128, WIDTHS)) == MNIST_BODY + pairs


def test_the_published_sizes_of_colour_images():
    """Of CelebA at 64x64 with one stage more; here those of 32x32."""
    generator = Generator("colour", (3, 32, 32), 128, WIDTHS)
    deconvs = conv(256, 128, 5, False) + 2 * 128 + conv(128, 64, 5, False) + 2 * 64 + conv(64, 3, 5)
    assert count(generator) == 128 * 4096 + 2 * 4096 + deconvs
    assert generator(torch.zeros(2, 128)).shape == (2, 3, 32, 32)
    assert count(Critic("colour", (3, 32, 32), WIDTHS)) == COLOUR_BODY + conv(256, 1, 4)
    down = [conv(3, 64, 4, False), conv(64, 128, 4, False) + 2 * 128, conv(128, 256, 4, False) + 2 * 256]
    up = [conv(128, 3, 4), conv(256, 64, 4, False) + 2 * 64, conv(512, 128, 4, False) + 2 * 128]
    bottom = conv(256, 512, 4, False) + conv(512, 256, 4, False) + 2 * 256
    assert count(UNet(3, 32, (64, 128, 256, 512))) == sum(down) + sum(up) + bottom
    encoder = Encoder("colour", (3, 32, 32), 128, WIDTHS)
    head = conv(256, 128, 4) + linear(128, 384) + 2 * 384 + linear(384, 384)
    assert count(encoder) == COLOUR_BODY + head + 2 * IAF
    assert Generator("colour", (3, 64, 64), 128, (*WIDTHS, 512))(torch.zeros(2, 128)).shape == (2, 3, 64, 64)


def test_the_dense_alternative_takes_any_shape():
    generator = Generator("dense", (2, 3, 5), 7, (16, 8))
    assert count(generator) == linear(7, 8) + linear(8, 16) + linear(16, 30)
    assert generator(torch.zeros(3, 7)).shape == (3, 2, 3, 5)
    assert count(Critic("dense", (2, 3, 5), (16, 8))) == linear(30, 16) + linear(16, 8) + linear(8, 1)


@pytest.mark.parametrize(
    ("kind", "shape", "widths"), [("mnist", (1, 28, 28), WIDTHS), ("colour", (3, 16, 16), (8, 16))]
)
def test_scores_do_not_depend_on_the_other_images_of_a_batch(kind, shape, widths):
    torch.manual_seed(0)
    critic, images = Critic(kind, shape, widths).train(), torch.rand(5, *shape)
    torch.testing.assert_close(critic(images)[2:3], critic(images[2:3]))


def test_the_unet_sees_the_whole_image_and_makes_an_image():
    torch.manual_seed(0)
    net = UNet(3, 16, (8, 8, 16)).eval()
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    out = net(image)
    assert out.shape == image.shape and out.detach().min() >= 0 and out.detach().max() <= 1
    out[0, 0, 8, 8].backward()
    assert (image.grad != 0).all()  # the middle hangs on all of the bottleneck, and that on all of the image


def test_an_autoregressive_step_has_a_triangular_jacobian():
    torch.manual_seed(0)
    step, context = IAFStep(6, 3, 16).double(), torch.randn(1, 3, dtype=torch.float64)
    z = torch.randn(6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: step(x[None], context)[0], z)
    assert torch.equal(jacobian, jacobian.tril()) and (jacobian.diagonal() > 0).all()
    assert (jacobian.tril(-1) != 0).any()
    # value i's gate does not depend on value i: d z'_i / d z_i is the gate, whatever z_i is
    moved = torch.autograd.functional.jacobian(lambda x: step(x[None], context)[0], z + torch.eye(6)[5])
    torch.testing.assert_close(moved[5, 5], jacobian[5, 5])
    assert 0 < float(jacobian[5, 5]) < 1


def test_the_body_s_instance_norms_are_as_published():
    layers, features = body("colour", (3, 32, 32), WIDTHS)
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "InstanceNorm2d", "LeakyReLU"] * 2, "Flatten"]
    assert features == 4096


@pytest.mark.parametrize(
    ("kind", "shape", "widths", "says"),
    [
        ("vgg", (1, 28, 28), WIDTHS, "nets='vgg'"),
        ("mnist", (1, 8, 8), WIDTHS, "28x28"),
        ("colour", (3, 32, 32), (8, 16), "16x16, not 32x32"),
        ("dense", (1, 8, 8), [0], "widths"),
    ],
)
def test_networks_that_do_not_fit_are_refused(kind, shape, widths, says):
    with pytest.raises(LacunaError, match=says):
        check_kind(kind, shape, 8, widths)


def test_a_unet_too_deep_is_refused():
    with pytest.raises(LacunaError, match="fewer widths"):
        UNet(3, 12, (8, 8, 8))
