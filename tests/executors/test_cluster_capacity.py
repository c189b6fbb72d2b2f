"""What fits on a cluster: counted, no Ray needed."""

from __future__ import annotations

import pytest

from lacuna.errors import LacunaError
from lacuna.executors.base import Resources
from lacuna.executors.cluster_capacity import Node, check_fits, free_slots

CLUSTER = [Node(8, 2), Node(4, 0)]


@pytest.mark.parametrize(
    "asked, number",
    [
        (Resources(1), 12),
        (Resources(3), 2 + 1),
        (Resources(8), 1),
        (Resources(9), 0),
        (Resources(1, 1), 2),
        (Resources(1, 0.5), 4),
        (Resources(1, 0.3), 6),  # three to a GPU, and a tenth of it is of no use
        (Resources(3, 0.5), 2),
        (Resources(1, 2), 1),
        (Resources(1, 1 / 7), 8),
    ],
)
def test_room_on_an_empty_cluster(asked: Resources, number: int) -> None:
    assert free_slots(CLUSTER, [], asked) == number
    # one after another, each takes one place, and then they are too many
    for running in range(number + 3):
        assert free_slots(CLUSTER, [asked] * running, asked) == number - running


def test_room_beside_others() -> None:
    assert free_slots(CLUSTER, [Resources(8)], Resources(1)) == 4
    assert free_slots(CLUSTER, [Resources(8)], Resources(1, 0.5)) == 0
    assert free_slots(CLUSTER, [Resources(1, 0.5)], Resources(1, 1)) == 1
    assert free_slots([], [], Resources(1)) == 0


def test_what_a_machine_could_hold_is_not_refused() -> None:
    for asked in (Resources(8, 2), Resources(4), Resources(1, 0.1)):
        check_fits(asked, CLUSTER)


@pytest.mark.parametrize(
    "asked, said",
    [
        (
            Resources(9),
            "A run asks for 9 CPU cores, but no machine on Ray has more than 8 CPU cores: lower executor.cpus",
        ),
        (
            Resources(1, 4),
            "1 CPU cores and 4 GPUs, but no machine on Ray has more than 2 GPUs: lower executor.gpus or ",
        ),
        (Resources(16, 2), "no machine on Ray has both: lower executor.cpus, executor.gpus or trainer.devices."),
    ],
)
def test_what_none_could_hold_is(asked: Resources, said: str) -> None:
    with pytest.raises(LacunaError) as error:
        check_fits(asked, [*CLUSTER, Node(16, 0)] if asked.cpus == 16 else CLUSTER)
    assert said in str(error.value)


def test_there_may_be_no_gpu_at_all() -> None:
    with pytest.raises(LacunaError, match="no machine on Ray has any GPUs: lower"):
        check_fits(Resources(1, 0.5), [Node(4, 0)])
