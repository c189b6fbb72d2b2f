"""Starters of several processes (torchrun, srun, mpirun) are recognised: each would do the whole command. No torch.

lacuna starts the processes of a run itself, one for each of ``trainer.devices`` (:mod:`lacuna.training.ranks`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lacuna.errors import LacunaError


@dataclass(frozen=True)
class Starter:
    """A program that starts copies of a command.

    Args:
        name: the program.
        size: environment variable with the number of copies.
        place: environment variable with the number of this copy; without it the other one says nothing.
        instead: how to start the command once.
    """

    name: str
    size: str
    place: str
    instead: str


STARTERS = (
    Starter("torchrun", "WORLD_SIZE", "RANK", "python"),
    # SLURM_NTASKS is also set in a batch script, which runs once; this is a variable of srun only
    Starter("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun -n 1 python"),
    Starter("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "python"),
    Starter("mpirun", "PMI_SIZE", "PMI_RANK", "python"),
)


def refuse_copies(environment: Mapping[str, str] = os.environ) -> None:
    """Check that this process is not one of several copies of a command.

    Raises:
        LacunaError: it is; says how to start the command instead.
    """
    for starter in STARTERS:
        given = environment.get(starter.size, "")
        if starter.place in environment and given.isdecimal() and int(given) > 1:
            raise LacunaError(
                f"{starter.name} has started {given} copies of this command, and each would do all of it: start it "
                f"once, as `{starter.instead} ...`, and several devices train one run with trainer.devices={given} "
                f"(where each copy has another task: unset {starter.size})."
            )
