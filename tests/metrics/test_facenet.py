"""FaceNet as a feature net: its preprocessing, and files that are not its weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.metrics.facenet import facenet
from lacuna.nets.inception_resnet import InceptionResNetV1

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net() -> InceptionResNetV1:
    torch.manual_seed(0)
    made = InceptionResNetV1()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_var is not None
            module.running_var.uniform_(0.01, 0.02)
    return made.eval()


@pytest.fixture(scope="module")
def state(net: InceptionResNetV1) -> OrderedDict[str, Tensor]:
    """A file as published: the net and a classifier of 8631 people."""
    found = OrderedDict(net.state_dict())
    found["logits.weight"], found["logits.bias"] = torch.zeros(8631, 512), torch.zeros(8631)
    return found


@pytest.fixture(scope="module")
def weights(state: OrderedDict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "faces.pt"
    torch.save(state, path)
    return path


@torch.no_grad()
def test_features_are_the_nets_of_scaled_large_images(weights: Path, net: InceptionResNetV1) -> None:
    features = facenet(weights)
    found = features(IMAGES)
    bytes_ = (IMAGES * 255).round()
    large = functional.interpolate(bytes_, size=(160, 160), mode="bilinear", align_corners=False)
    assert torch.allclose(found, net((large - 127.5) / 128), atol=1e-5)
    assert found.shape == (4, 512) and torch.allclose(found.norm(dim=1), torch.ones(4))
    assert float((found[0] - found[1]).norm()) > 1e-3
    assert "facenet inception-resnet-v1@" in features.protocol and "160x160" in features.protocol


def test_a_grey_image_is_one_of_three_equal_channels(weights: Path) -> None:
    features, grey = facenet(weights), IMAGES[:2, :1]
    assert torch.equal(features(grey), features(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(LacunaError, match="not images of 2 channels"):
        features(IMAGES[:, :2])


def test_the_classifier_in_the_file_is_not_used(weights: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: value for name, value in state.items() if not name.startswith("logits.")}, tmp_path / "bare.pt")
    torch.save(state | {"logits.weight": torch.ones(10575, 512)}, tmp_path / "other.pt")
    assert all(facenet(tmp_path / name).protocol == facenet(weights).protocol for name in ("bare.pt", "other.pt"))
    torch.save(state | {"last_bn.bias": torch.ones(512)}, tmp_path / "changed.pt")
    assert facenet(tmp_path / "changed.pt").protocol != facenet(weights).protocol


def test_without_weights_the_file_and_the_key_are_named() -> None:
    with pytest.raises(LacunaError, match=r"20180402-114759-vggface2\.pt .* set features\.weights to the file"):
        facenet()


class Command:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_files_that_are_not_its_weights_are_refused_and_run_nothing(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=r"nowhere\.pt cannot be read"):
        facenet(tmp_path / "nowhere.pt")
    path = tmp_path / "faces.pt"
    path.write_bytes(b"no weights at all")
    with pytest.raises(LacunaError, match="is damaged or holds more than tensors: it is not FaceNet's weights"):
        facenet(path)
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-10_000_000])
    with pytest.raises(LacunaError, match="is damaged or holds more than tensors"):
        facenet(path)
    torch.save(state | {"evil": Command(tmp_path / "trace")}, path)
    with pytest.raises(LacunaError, match="is damaged or holds more than tensors"):
        facenet(path)
    assert not (tmp_path / "trace").exists()
    foreign: list[Any] = [torch.zeros(3), [torch.zeros(3)], {1: torch.zeros(3)}, {"fc.weight": torch.zeros(3)}, {}]
    less = {name: value for name, value in state.items() if name != "last_bn.bias"}
    for content in (*foreign, less, {**state, "last_bn.bias": torch.zeros(3)}, {**state, "more": torch.zeros(3)}):
        torch.save(content, path)
        with pytest.raises(LacunaError, match=r"faces\.pt does not fit FaceNet: get https://.*features\.weights"):
            facenet(path)
