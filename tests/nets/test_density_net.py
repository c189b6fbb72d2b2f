"""The networks of appendix A.1: sizes as printed, any image size, any number of components."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lacuna.errors import LacunaError
from lacuna.nets.density_net import FullyConvolutional, LinearHeads, RawParameters, conv_block, network_input
from lacuna.nets.residual_net import ResidualUNet
from tests.dense import random_images, random_mask


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(cls: type[nn.Module], *args, **kwargs) -> nn.Module:
    """Without memory: the MNIST network has 118 million parameters."""
    with torch.device("meta"):
        return cls(*args, **kwargs)


def test_linear_heads_have_the_printed_size():
    """reference/misconv.md 2.1."""
    net = on_meta(LinearHeads, (1, 28, 28), 1, 4)
    assert count(net.extractor) == 83_376
    assert count(net.factors) == 78_679_104
    assert count(net.mean) == count(net.noise) == 19_669_776
    assert count(net) == 83_376 + 78_679_104 + 2 * 19_669_776


@pytest.mark.parametrize(("blocks", "backbone"), [(2, 2_039_328), (4, 4_192_416)], ids=["32x32", "celeba"])
def test_the_authors_network_has_the_printed_size(blocks, backbone):
    """reference/misconv.md 2.2."""
    net = on_meta(
        FullyConvolutional, (3, 32, 32), 1, 4,
        encoder=((32, blocks), (64, blocks)), middle=(128, blocks), variant="authors",
    )  # fmt: skip
    assert count(net.backbone) == backbone
    assert (count(net.factors), count(net.mean), count(net.noise)) == (14_588, 5_091, 867)


def test_the_paper_s_network_has_the_listed_layers():
    """Appendix A.1: [conv32]x2 down [conv64]x2 down [conv128]x4 up [conv64]x2 up [conv32]x2, counted by hand."""
    net = on_meta(FullyConvolutional, (3, 32, 32), 1, 4)

    def conv(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2 + after

    def block(before: int, after: int) -> int:
        return conv(before, after, 5) + 2 * after

    expected = block(6, 32) + block(32, 32) + conv(32, 32, 3) + block(32, 64) + block(64, 64) + conv(64, 64, 3)
    expected += block(64, 128) + 3 * block(128, 128)
    expected += conv(128, 128, 3) + block(128, 64) + block(64, 64) + conv(64, 64, 3) + block(64, 32) + block(32, 32)
    assert count(net.backbone) == expected

    def head(out: int) -> int:  # two convolutions, 16 filters, ReLU and batch normalisation between
        return conv(32, 16, 3) + 2 * 16 + conv(16, out, 3)

    assert (count(net.mean), count(net.noise), count(net.factors)) == (head(3), head(3), head(12))


def test_a_block_is_convolution_relu_batch_norm():
    assert [type(layer) for layer in conv_block(3, 4, 5)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert [type(layer) for layer in conv_block(3, 4, 5, 0.3)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout]


NETS = {
    "linear": lambda shape, k, rank: LinearHeads(shape, k, rank, filters=(4, 4), kernels=(3, 3)),
    "paper": lambda shape, k, rank: FullyConvolutional(
        shape, k, rank, encoder=((4, 1), (6, 1)), middle=(8, 1), decoder=((6, 1), (4, 1))
    ),
    "authors": lambda shape, k, rank: FullyConvolutional(
        shape, k, rank, encoder=((4, 1), (6, 1)), middle=(8, 1), variant="authors"
    ),
    "residual": lambda shape, k, rank: ResidualUNet(shape, k, rank, stages=((4, 1), (6, 1), (8, 1))),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (2, 13, 5), (1, 1, 1)])
@pytest.mark.parametrize(("k", "rank"), [(1, 4), (3, 2), (2, 0)])
def test_shapes(net, shape, k, rank):
    model = NETS[net](shape, k, rank).eval()
    for per_channel in (False, True):
        raw = model(random_images(2, shape).float(), random_mask(2, shape, per_channel=per_channel))
        assert isinstance(raw, RawParameters)
        assert raw.logits.shape == (2, k)
        assert raw.mean.shape == raw.noise.shape == (2, k, *shape)
        assert raw.factors.shape == (2, k, rank, *shape)
        assert all(part.isfinite().all() for part in raw)
    assert (raw.logits == 0).all() == (k == 1)


@pytest.mark.parametrize("net", ["paper", "authors"])
def test_padding_to_a_multiple_of_two_to_the_depth_is_invisible(net):
    """An image and the same one with a margin of zeros that fits see the same features where they overlap."""
    torch.manual_seed(0)
    shape = (1, 8, 8)
    model = NETS[net](shape, 1, 1).eval()
    observed, mask = random_images(1, shape).float(), random_mask(1, shape)
    cropped = model(observed[..., :6, :5], mask[..., :6, :5])
    whole = torch.zeros(1, *shape), torch.zeros(1, *shape, dtype=torch.bool)
    whole[0][..., :6, :5], whole[1][..., :6, :5] = observed[..., :6, :5], mask[..., :6, :5]
    backbones = [model.backbone(network_input(*whole))[..., :6, :5]]
    # heads are convolutions: compare what is away from the cut
    torch.testing.assert_close(cropped.mean[..., :4, :3], model.mean(backbones[0]).unsqueeze(1)[..., :4, :3])


def test_the_input_is_the_image_and_the_mask():
    observed, mask = random_images(2, (3, 4, 4)).float(), random_mask(2, (3, 4, 4))
    both = network_input(observed, mask)
    assert both.shape == (2, 6, 4, 4) and both.dtype == torch.float32
    assert torch.equal(both[:, :3], observed)
    assert all(torch.equal(both[:, 3 + c], mask[:, 0].float()) for c in range(3))


@pytest.mark.parametrize("net", NETS)
def test_components_differ(net):
    torch.manual_seed(0)
    shape = (1, 8, 8)
    raw = NETS[net](shape, 3, 2).eval()(random_images(1, shape).float(), random_mask(1, shape))
    assert not torch.allclose(raw.mean[:, 0], raw.mean[:, 1])
    assert not torch.allclose(raw.factors[:, 0, 0], raw.factors[:, 0, 1])
    assert math.isfinite(raw.logits.std().item()) and raw.logits.std() > 0


@pytest.mark.parametrize(
    ("network", "arguments", "said"),
    [
        (LinearHeads, {"filters": []}, r"density.net.filters=\[\] must be a list of one or more"),
        (LinearHeads, {"filters": [0, 4]}, "density.net.filters"),
        (LinearHeads, {"filters": [8, 4, 4], "kernels": [3, 4, 3]}, r"density.net.kernels\[1\]=4: .* must be odd"),
        (LinearHeads, {"filters": [8, 4, 4], "kernels": [3]}, "must be of the same length"),
        (LinearHeads, {"filters": [8], "kernels": [3, 3]}, "must be of the same length"),
        (FullyConvolutional, {"kernel": 4}, "density.net.kernel=4: the size of a kernel must be odd"),
        (FullyConvolutional, {"kernel": [3]}, r"density.net.kernel=\[3\]"),
        (FullyConvolutional, {"encoder": []}, "density.net.encoder"),
        (FullyConvolutional, {"encoder": [[32]]}, r"density.net.encoder\[0\]"),
        (FullyConvolutional, {"middle": [8]}, "density.net.middle"),
        (FullyConvolutional, {"decoder": [[8, 1], 3]}, r"density.net.decoder\[1\]=3"),
        (FullyConvolutional, {"decoder": [[8, 1]]}, "must be of the same length"),
        (FullyConvolutional, {"variant": "best"}, "density.net.variant='best'"),
        (ResidualUNet, {"stages": []}, "net.stages"),
        (ResidualUNet, {"stages": [[8, 1], 3]}, r"net.stages\[1\]=3"),
    ],
)
def test_values_out_of_range_are_refused(network, arguments, said):
    with pytest.raises(LacunaError, match=said):
        network((1, 8, 8), 1, 2, **arguments)
