"""FaceNet as a feature net: embeddings of faces that are close for images of one person; PRFlow's FID of CelebA."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.metrics.features import LEVELS, Features, read_tensors
from lacuna.nets.inception_resnet import InceptionResNetV1

SIDE = 160
"""Side in pixels of the images it was trained on."""
WEIGHTS = (
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt "
    "(or 20180408-102900-casia-webface.pt, from there as well)"
)


def facenet(weights: Path | str | None = None) -> Features:
    """Inception-ResNet-v1 with facenet-pytorch's published weights: 512 features per image, normalised to norm 1.

    Args:
        weights: the weights file; its classifier is not used.

    Raises:
        LacunaError: no file is given, or it is missing, damaged or of another net; the message says what to do.
    """
    if weights is None:
        raise LacunaError(f"features=facenet has no weights: get {WEIGHTS} and set features.weights to the file.")
    state = read_tensors(weights, "FaceNet")
    net = InceptionResNetV1()
    try:
        net.load_state_dict({name: value for name, value in state.items() if not name.startswith("logits.")})
    except (AttributeError, TypeError, RuntimeError) as error:  # not a state dict, or other names or shapes
        raise LacunaError(f"{weights} does not fit FaceNet: get {WEIGHTS} and set features.weights to it.") from error
    return Features(_FaceNet(net), name="facenet inception-resnet-v1", layer="embedding of norm 1", resize=SIDE)


class _FaceNet(nn.Module):
    """The net with its preprocessing: three channels, values scaled as in its training."""

    def __init__(self, net: InceptionResNetV1) -> None:
        super().__init__()
        self.net = net

    def features(self, images: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) in [0, 1] -> (B, 512)."""
        if images.shape[1] not in (1, 3):
            raise LacunaError(f"FaceNet takes grey or RGB images, not images of {images.shape[1]} channels.")
        found: Tensor = self.net((images.expand(-1, 3, -1, -1) * LEVELS - LEVELS / 2) / 128)
        return found
