"""The classifiers of appendix A.2: sizes as printed, any feature size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacuna.errors import LacunaError
from lacuna.nets.classifier import Classifier

STAGES = ((4, 0), (6, 2))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("size", "blocks", "hidden", "dropout", "expected"),
    [((28, 28), 1, 20, 0.0, 146_310), ((32, 32), 1, 20, 0.0, 165_510), ((32, 32), 2, 128, 0.3, 655_434)],
    ids=["mnist", "svhn", "cifar10"],
)
def test_the_authors_network_has_the_printed_size(size, blocks, hidden, dropout, expected):
    """reference/misconv.md 4.1, without the first layer."""
    stages = ((32, blocks), (64, blocks))
    assert count(Classifier(32, size, 10, stages, hidden, dropout, "authors")) == expected


def test_the_paper_s_network_has_the_listed_layers():
    """Appendix A.2, MNIST: [conv32, down, [conv64] x 2, lin20, lin10], counted by hand; the stem is the conv32."""

    def conv(before: int, after: int) -> int:
        return before * after * 9 + after

    expected = 64 + conv(32, 32) + conv(32, 64) + 128 + conv(64, 64) + 128
    expected += 64 * 14 * 14 * 20 + 20 + 20 * 10 + 10
    assert count(Classifier(32, (28, 28), 10)) == expected


def test_the_stem_s_relu_is_normalised_as_the_list_says():
    """Appendix A.2's blocks are convolution, ReLU, batch normalisation; convolution and ReLU are the stem's."""
    torch.manual_seed(0)
    net = Classifier(4, (8, 8), 3, STAGES).train()
    features = torch.rand(16, 4, 8, 8) * torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None] + 5
    first = net.features[0](features)
    assert isinstance(net.features[0], nn.BatchNorm2d) and isinstance(net.features[1], nn.Conv2d)
    assert first.mean((0, 2, 3)).abs().max() < 1e-4 and (first.var((0, 2, 3)) - 1).abs().max() < 2e-2


@pytest.mark.parametrize("variant", ["paper", "authors"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 13), (1, 1)])
def test_any_size_of_features(variant, size):
    net = Classifier(4, size, 3, ((4, 1), (6, 2)), 5, 0.2, variant)
    assert net.training and net.features.training, "measuring the features must not leave it in evaluation mode"
    out = net.eval()(torch.rand(2, 4, *size))
    assert out.shape == (2, 3) and out.isfinite().all()


def test_measuring_leaves_no_trace_in_batch_statistics():
    net = Classifier(4, (8, 8), 3, STAGES)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.num_batches_tracked == 0 and (norm.running_mean == 0).all() for norm in norms)


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_dropout_is_at_work_only_in_training(variant):
    torch.manual_seed(0)
    net, x = Classifier(4, (8, 8), 3, ((4, 1),), 8, 0.5, variant), torch.rand(2, 4, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    # behind the block and the hidden layer; in the paper's list the stem is a block too
    assert sum(isinstance(module, nn.Dropout) for module in net.modules()) == 2 + (variant == "paper")


def test_every_weight_is_trained():
    net = Classifier(4, (8, 8), 3, STAGES)
    net(torch.rand(3, 4, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_an_unknown_variant_is_refused():
    with pytest.raises(LacunaError, match=r"net.variant='best' is neither 'paper' nor 'authors'"):
        Classifier(4, (8, 8), 3, STAGES, variant="best")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stages": []}, r"net.stages=\[\] needs one or more"),
        ({"stages": 3}, "net.stages=3 needs one or more"),
        ({"stages": [[32]]}, r"net.stages\[0\]=\[32\] must be \[filters, number of blocks\]"),
        ({"stages": [[32, 1], 64]}, r"net.stages\[1\]=64 must be"),
        ({"stages": [[32, 0]]}, r"net.stages\[0\]=\[32, 0\] has no convolution of its own, .* set stem.filters=32"),
        ({"stages": [[4, 0], [8, 0]]}, r"net.stages\[1\]=\[8, 0\] must be"),
        ({"stages": [[4, 0]], "variant": "authors"}, r"net.stages\[0\]=\[4, 0\] must be"),
        ({"stages": [[4, -1]]}, r"net.stages\[0\]=\[4, -1\] must be"),
        ({"stages": [[True, 1]]}, r"net.stages\[0\]"),
        ({"hidden": 0}, "net.hidden=0 must be a whole number of at least 1"),
        ({"hidden": None}, "net.hidden=None"),
    ],
)
def test_values_out_of_range_are_refused(arguments, said):
    with pytest.raises(LacunaError, match=said):
        Classifier(4, (8, 8), 3, **{"stages": STAGES, **arguments})
