"""Inception-ResNet-v1: the size, names and shapes of the published net, and what its blocks do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacuna.nets.inception_resnet import InceptionResNetV1, block8, block17, block35, mixed_6a, mixed_7a

STEM = [(3, 32, 9), (32, 32, 9), (32, 64, 9), (64, 80, 1), (80, 192, 9), (192, 256, 9)]
BLOCK35 = [(256, 32, 1), (256, 32, 1), (32, 32, 9), (256, 32, 1), (32, 32, 9), (32, 32, 9)]
MIXED_6A = [(256, 384, 9), (256, 192, 1), (192, 192, 9), (192, 256, 9)]
BLOCK17 = [(896, 128, 1), (896, 128, 1), (128, 128, 7), (128, 128, 7)]
MIXED_7A = [(896, 256, 1), (256, 384, 9), (896, 256, 1), (256, 256, 9), (896, 256, 1), (256, 256, 9), (256, 256, 9)]
BLOCK8 = [(1792, 192, 1), (1792, 192, 1), (192, 192, 3), (192, 192, 3)]


@pytest.fixture(scope="module")
def net() -> InceptionResNetV1:
    """With weights and statistics that are not their initial values, so that images tell."""
    torch.manual_seed(0)
    made = InceptionResNetV1()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.01, 0.02)
    return made.eval()


def test_it_has_as_many_parameters_as_the_published_net(net: InceptionResNetV1) -> None:
    """Convolutions without bias and two numbers of batch norm a filter, counted from the architecture."""
    convolutions = [*STEM, *5 * BLOCK35, *MIXED_6A, *10 * BLOCK17, *MIXED_7A, *6 * BLOCK8]
    by_hand = sum(before * after * kernel + 2 * after for before, after, kernel in convolutions)
    joins = [(96, 256)] * 5 + [(256, 896)] * 10 + [(384, 1792)] * 6  # 1x1, with bias
    by_hand += sum(before * after + after for before, after in joins)
    by_hand += 1792 * 512 + 2 * 512
    assert sum(p.numel() for p in net.parameters()) == by_hand == 23_482_624


def test_its_weights_have_the_published_names(net: InceptionResNetV1) -> None:
    state = net.state_dict()
    assert len(state) == 714
    published = {
        "conv2d_1a.conv.weight": (32, 3, 3, 3),
        "conv2d_4b.bn.running_var": (256,),
        "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
        "repeat_1.0.conv2d.bias": (256,),
        "mixed_6a.branch0.conv.weight": (384, 256, 3, 3),
        "mixed_6a.branch1.2.bn.weight": (256,),
        "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
        "repeat_2.0.branch1.2.conv.weight": (128, 128, 7, 1),
        "mixed_7a.branch2.1.conv.weight": (256, 256, 3, 3),
        "repeat_3.4.branch0.conv.weight": (192, 1792, 1, 1),
        "block8.branch1.1.conv.weight": (192, 192, 1, 3),
        "block8.conv2d.weight": (1792, 384, 1, 1),
        "last_linear.weight": (512, 1792),
        "last_bn.num_batches_tracked": (),
    }
    assert {name: tuple(state[name].shape) for name in published} == published


def test_scales_and_strides_are_the_published_ones(net: InceptionResNetV1) -> None:
    assert [block.scale for block in (*net.repeat_1, *net.repeat_2)] == 5 * [0.17] + 10 * [0.1]
    assert [block.scale for block in net.repeat_3] == 5 * [0.2]
    assert net.block8.scale == 1 and not net.block8.relu
    names = ("conv2d_2b", "maxpool_3a", "conv2d_4b", "repeat_1", "mixed_6a", "mixed_7a", "block8")
    sides: list[int] = []
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda module, given, out: sides.append(out.shape[-1]))
        for name in names
    ]
    with torch.no_grad():
        net(torch.zeros(1, 3, 160, 160))
    for hook in hooks:
        hook.remove()
    assert sides == [77, 38, 17, 17, 8, 3, 3]


@torch.no_grad()
def test_embeddings_have_norm_1_and_do_not_depend_on_the_batch(net: InceptionResNetV1) -> None:
    x = torch.randn(3, 3, 96, 96)
    found = net(x)
    assert found.shape == (3, 512) and torch.allclose(found.norm(dim=1), torch.ones(3))
    assert torch.allclose(torch.cat([net(image[None]) for image in x]), found, atol=1e-5)
    assert float((found[0] - found[1]).norm()) > 1e-3


@pytest.mark.parametrize(("make", "channels"), [(block35, 256), (block17, 896), (block8, 1792)])
def test_a_residual_block_adds_to_its_input(make, channels: int) -> None:
    block, x = make().eval(), torch.randn(1, channels, 3, 3)
    before = block(x)
    nn.init.zeros_(block.conv2d.weight)
    nn.init.constant_(block.conv2d.bias, 2.0)
    assert torch.allclose(block(x), (x + 2 * block.scale).relu()) and not torch.allclose(block(x), before)


def test_the_last_block_has_no_relu() -> None:
    block = block8(1.0, relu=False)
    nn.init.zeros_(block.conv2d.weight)
    nn.init.zeros_(block.conv2d.bias)
    x = torch.randn(1, 1792, 3, 3)
    assert torch.equal(block.eval()(x), x)


@pytest.mark.parametrize(("make", "before", "after"), [(mixed_6a, 256, 896), (mixed_7a, 896, 1792)])
def test_a_reduction_keeps_the_maxima_of_its_input(make, before: int, after: int) -> None:
    x = torch.rand(1, before, 9, 9)
    out = make().eval()(x)
    assert out.shape == (1, after, 4, 4)
    assert torch.equal(out[:, -before:], nn.functional.max_pool2d(x, 3, 2))
