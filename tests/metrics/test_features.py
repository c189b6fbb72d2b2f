"""Feature nets: frozen, named, independent of the caller's precision and mode; and Inception through torch-fidelity."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.metrics.features import Features, inception
from lacuna.nets.classifier import Classifier
from lacuna.nets.lenet import LeNet
from lacuna.nets.resnet import ResNet

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ROUNDED = (IMAGES * 255).round() / 255


def nets() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "lenet": LeNet(3, (16, 16), 4),
        "resnet": ResNet(3, (16, 16), 4, ((8, 1), (16, 1))),
        "classifier": Classifier(3, (16, 16), 4, ((8, 1), (16, 1)), dropout=0.5),
        "a user's": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 14 * 14, 6)),
    }


@pytest.mark.parametrize("name", nets())
def test_features_are_the_nets_in_evaluation_mode(name: str) -> None:
    net = nets()[name]
    features = Features(net)
    assert net.training, "the net itself is left as it was"
    expected = getattr(net.eval(), "features", net)(ROUNDED)
    found = features(IMAGES)
    assert torch.equal(found, expected) and found.ndim == 2 and not found.requires_grad
    parts = torch.cat([features(batch) for batch in IMAGES.split(2)])
    assert torch.allclose(parts, found, atol=1e-6), "an image's features do not depend on its batch"


def test_training_the_net_further_changes_nothing() -> None:
    net = nets()["lenet"]
    features = Features(net)
    before, digest = features(IMAGES), features.digest
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1.0)
    assert torch.equal(features(IMAGES), before)
    assert Features(net).digest != digest == Features(nets()["lenet"]).digest


def test_the_digest_depends_on_every_weight_and_buffer() -> None:
    digests = {Features(nets()[name]).digest for name in nets()}
    state = nets()["resnet"].state_dict()
    for name in state:
        net = nets()["resnet"]
        net.state_dict()[name].view(-1)[0].add_(1)
        digests.add(Features(net).digest)
    assert len(digests) == len(nets()) + len(state)


def test_images_are_rounded_to_8_bits() -> None:
    features = Features(lambda x: x.flatten(1), name="pixels")
    found = features(IMAGES * 1.2 - 0.1) * 255
    assert torch.allclose(found, found.round(), atol=1e-4) and found.min() == 0 and found.max() == 255
    assert torch.equal(features(ROUNDED + 0.3 / 255), features(ROUNDED))


def test_an_image_that_is_not_finite_has_no_features() -> None:
    images = IMAGES.clone()
    images[1, 0, 3, 3], images[3, 2, 0, 0] = torch.nan, torch.inf
    found = Features(nets()["lenet"])(images)
    assert found.isnan().all(1).tolist() == [False, True, False, True, False]
    assert torch.allclose(found[[0, 2, 4]], Features(nets()["lenet"])(IMAGES)[[0, 2, 4]], atol=1e-6)


def test_half_precision_of_a_training_step_does_not_reach_it() -> None:
    features = Features(nets()["lenet"])
    expected = features(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(features(IMAGES), expected)
    assert torch.equal(features(ROUNDED.double()), expected)


def test_resizing() -> None:
    pixels = Features(lambda x: x.flatten(1), name="pixels", resize=4)
    even = torch.full((2, 3, 16, 16), 0.2)
    assert pixels(even).shape == (2, 48) and torch.allclose(pixels(even), torch.tensor(51 / 255))
    # one line in four: sampling without a filter would make it all line or no line at all
    lines = torch.zeros(1, 1, 16, 16)
    lines[..., ::4] = 1
    inside = pixels(lines).view(4, 4)[:, 1:-1]
    assert torch.allclose(inside, torch.tensor(0.25), atol=0.02)


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"needs a name: Features\(function, name='...'\)"):
        Features(lambda x: x)
    maps = Features(nn.Conv2d(3, 4, 3))
    with pytest.raises(LacunaError, match=r"Conv2d returned \(5, 4, 14, 14\) for 5 images: features must be \(B, d\)"):
        maps(IMAGES)
    with pytest.raises(LacunaError, match=r"not torch.uint8 \(5, 3, 16, 16\)"):
        maps((IMAGES * 255).to(torch.uint8))
    with pytest.raises(LacunaError, match=r"not torch.float32 \(3, 16, 16\)"):
        maps(IMAGES[0])


# ---------------------------------------------------------------------- Inception


class Extractor(nn.Module):
    """A stand-in for torch-fidelity's net: the same checks of its input, mean colours as features."""

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str | None) -> None:
        super().__init__()
        assert (name, layers) == ("inception-v3-compat", ["2048"])
        if feature_extractor_weights_path is None:
            raise OSError("no route to host")
        self.scale = nn.Parameter(torch.load(feature_extractor_weights_path, weights_only=False)["scale"])

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] == 3
        return (images.float().mean((2, 3)) * self.scale,)


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    vars(module).update(FeatureExtractorInceptionV3=Extractor, URL_INCEPTION_V3="scheme://place/inception.pth")
    vars(package).update(feature_extractor_inceptionv3=module)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "inception.pth"
    torch.save({"scale": torch.tensor(0.5)}, path)
    return path


def test_inception_is_given_rgb_bytes(fidelity: None, weights: Path) -> None:
    features = inception(weights)
    assert torch.allclose(features(IMAGES), ROUNDED.mean((2, 3)) * 255 * 0.5, atol=1e-4)
    grey = features(IMAGES[:, :1])
    assert grey.shape == (5, 3) and torch.equal(grey[:, 0], grey[:, 2])
    assert "inception-v3-compat@" in features.protocol and "299x299" in features.protocol
    with pytest.raises(LacunaError, match="not images of 2 channels"):
        features(IMAGES[:, :2])


def test_without_torch_fidelity_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(LacunaError, match=r"needs the package torch-fidelity: pip install 'lacuna-images\[fid\]'"):
        inception()


def test_without_weights_their_address_is_named(fidelity: None) -> None:
    with pytest.raises(LacunaError, match=r"from the network \(no route to host\): get the file scheme://place"):
        inception()


class Command:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_other_files_are_refused_and_no_code_is_run(fidelity: None, tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=r"nowhere\.pth cannot be read"):
        inception(tmp_path / "nowhere.pth")
    path = tmp_path / "evil.pth"
    torch.save({"scale": Command(tmp_path / "trace")}, path)
    with pytest.raises(LacunaError, match=r"evil\.pth is damaged or holds more than tensors"):
        inception(path)
    assert not (tmp_path / "trace").exists()
    path.write_bytes(b"no weights at all")
    with pytest.raises(LacunaError, match="damaged"):
        inception(path)
    torch.save({"another": torch.zeros(2)}, path)
    with pytest.raises(LacunaError, match="could not be loaded from"):
        inception(path)
