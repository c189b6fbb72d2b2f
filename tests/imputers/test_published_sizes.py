"""MCFlow's and PRFlow's networks and weights as published, in the configs of their rows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lacuna.imputers.mcflow import MCFlow
from lacuna.runs.resolve import resolve
from lacuna.tasks.common.models import Sizes, build_imputer
from tests.runs.real import config

MNIST, COLOUR = (1, 28, 28), (3, 32, 32)
ROWS = [("mnist", "", MNIST), ("cifar10", "_colour", COLOUR), ("celeba32", "_colour", COLOUR)]


def linear(*widths: int) -> int:
    """Weights and biases of fully connected layers."""
    return sum(before * after + after for before, after in pairwise(widths))


def made(data: str, imputer: str, shape: tuple[int, int, int]) -> MCFlow:
    content = resolve(config(f"experiment={data}_impute", f"imputer={imputer}"), "0123456789ab").config
    with torch.device("meta"):
        model = build_imputer(content, Sizes(shape), {})
    assert isinstance(model, MCFlow)
    return model


@pytest.mark.parametrize(("data", "kind", "shape"), ROWS)
def test_the_networks_have_their_published_sizes(data: str, kind: str, shape: tuple[int, int, int]) -> None:
    size = shape[0] * shape[1] * shape[2]
    hidden = {MNIST: 784, COLOUR: 1024}[shape]
    mcflow, prflow = made(data, f"mcflow{kind}", shape), made(data, f"prflow{kind}", shape)
    found = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in (("G", mcflow.flow), ("G'", prflow.flow), ("H", mcflow.net), ("H'", prflow.net))
    }
    flow = 12 * linear(size, size, size, size, size)  # a scale and a shift in each of six couplings
    own = linear(size, *[size] * 4, size)
    theirs = linear(size, hidden, hidden, hidden, size)
    assert found == {"G": flow, "G'": flow, "H": own, "H'": theirs}
    if shape == COLOUR:
        assert found == {"G": 453_132_288, "G'": 453_132_288, "H": 47_201_280, "H'": 8_394_752}


@pytest.mark.parametrize("kind", ["", "_colour", "_digits"])
def test_prflow_has_the_papers_lambda_and_the_other_row_a_tenth(kind: str) -> None:
    paper, tenth = (config("task=impute", f"imputer={name}{kind}")["imputer"] for name in ("prflow", "prflow_tenth"))
    assert paper["training"]["prior"]["weight"] == 1.0 and tenth["training"]["prior"]["weight"] == 0.1
    assert paper["training"]["prior"]["rule"] == "frozen" and paper["training"]["prior"]["warm_up"] == 1
    assert (paper["name"], tenth["name"]) == ("prflow", "prflow_tenth")
    tenth["training"]["prior"]["weight"], tenth["name"] = 1.0, "prflow"
    assert paper == tenth


def test_j2_weighs_as_in_mcflows_code() -> None:
    for name in ("mcflow", "mcflow_colour", "prflow", "prflow_colour"):
        training = config("task=impute", f"imputer={name}")["imputer"]["training"]
        assert training["reconstruction_weight"] == training["batch_size"] == 64
        assert training["refresh"] == {"first": 2, "factor": 2, "reset_flow": True}
        assert training["lr"] == 1e-4 and training["epochs"] == 500
        assert (training["stop"] is None) == name.startswith("mcflow")
