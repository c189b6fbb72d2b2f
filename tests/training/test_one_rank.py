"""In a group of a single process, everything that ranks share is what a process alone has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lacuna.errors import LacunaError
from lacuna.tasks.common import distributed
from lacuna.training.rank import process_group
from lacuna.training.synced_norm import SyncedNorms


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as the only rank."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    with process_group(tmp_path, cuda=False):
        yield


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5, 4)], ids=["values", "images"])
def test_synced_norms_are_torchs(group: None, shape: tuple[int, ...], options: dict[str, object]) -> None:
    torch.manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    ours, torchs = (nn.Sequential(kind(3, **options)).double() for _ in range(2))  # type: ignore[arg-type]
    torchs.load_state_dict(ours.state_dict())
    assert SyncedNorms().apply(ours) is ours
    for _ in range(3):
        x = torch.randn(shape, dtype=torch.float64) * 3 + 1
        weight = torch.randn(shape, dtype=torch.float64)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(value) for norm, value in zip((ours, torchs), inputs, strict=True)]
        for output in outputs:
            (output * weight).sum().backward()
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for (name, one), other in zip(ours.state_dict().items(), torchs.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
    for one, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert torch.equal(ours.eval()(x), ours[0].forward(x))
    SyncedNorms().revert(ours)
    assert "forward" not in vars(ours[0])


def test_what_ranks_tell_each_other(group: None) -> None:
    assert (distributed.ranks(), distributed.rank()) == (1, 0)
    assert distributed.of_all_ranks({"a": 1}) == [{"a": 1}]
    assert distributed.on_first_rank(lambda: 3) == 3
    loss = torch.tensor(2.5, requires_grad=True)
    assert distributed.weighted(loss, 4).item() == 2.5

    def fail() -> None:
        raise LacunaError("no space")

    with pytest.raises(LacunaError, match="no space"):
        distributed.on_first_rank(fail)
