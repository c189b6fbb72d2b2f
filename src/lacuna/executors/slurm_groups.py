"""Which runs of a plan share a SLURM job, and which jobs wait for which. Plain values, without submitit.

Runs that depend on each other share a job where all of them fit: they need no second wait in the queue. Otherwise a job
has runs of one stage, the length of the longest chain of prerequisites in other jobs: as jobs need only jobs of lower
stages, they never wait for each other in a circle. Runs that others wait for share no job with runs that keep nobody
waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from lacuna.executors.base import Job

Atom = tuple[Job, ...]
"""Runs that stay together, prerequisites first."""


@dataclass(frozen=True)
class Room:
    """What a SLURM job has room for.

    Args:
        runs: most runs in it.
        at_a_time: of them at a time.
        seconds: until its time limit.
    """

    runs: int
    at_a_time: int
    seconds: float = math.inf

    def of(self, job: Job) -> Room:
        """The room for runs like this one: those of several devices, or that measure times, run one at a time."""
        return Room(self.runs, 1, self.seconds) if alone(job) else self

    def fits(self, number: int, seconds: float) -> bool:
        """Whether so many runs, which take so many seconds together, fit into one job."""
        return number <= self.runs and seconds <= self.seconds * self.at_a_time


@dataclass(frozen=True)
class Group:
    """The runs of one SLURM job.

    Args:
        jobs: prerequisites first.
        needs: positions of the groups that have prerequisites of them; all before this one.
        at_a_time: number of runs at a time.
    """

    jobs: tuple[Job, ...]
    needs: tuple[int, ...]
    at_a_time: int


def alone(job: Job) -> bool:
    """Whether a run has the devices of its SLURM job for itself."""
    return job.settings.devices > 1 or job.recipe.measured


def make_groups(jobs: Sequence[Job], expected: Mapping[str, float | None], room: Room) -> list[Group]:
    """Groups of runs, each after those that it needs.

    Args:
        jobs: prerequisites first. A prerequisite that is not among them is no matter of these groups.
        expected: seconds that they are expected to take, by identity; None or missing: the mean of the others.
        room: of a SLURM job.
    """
    seconds = _seconds(jobs, expected)
    atoms = _atoms(jobs, lambda atom: room.of(atom[0]).fits(len(atom), sum(seconds[job.identity] for job in atom)))
    of_run = {job.identity: number for number, atom in enumerate(atoms) for job in atom}
    needs = [_needed(atom, of_run) - {number} for number, atom in enumerate(atoms)]
    stages = _stages(needs)
    gating = set().union(*needs)
    kinds = {n: (stages[n], alone(atom[0]), n not in gating) for n, atom in enumerate(atoms)}
    groups: list[Group] = []
    place: dict[int, int] = {}
    for kind in sorted(set(kinds.values())):
        chosen = [n for n in kinds if kinds[n] == kind]
        fits = room.of(atoms[chosen[0]][0])
        first = {n: tuple(sorted({place[need] for need in needs[n]})) for n in chosen}
        for together in _with_the_same_needs(chosen, first, lambda n: len(atoms[n]), fits.runs):
            loads = {n: sum(seconds[job.identity] for job in atoms[n]) for n in together}
            for members in _balanced(together, loads, lambda n: len(atoms[n]), fits):
                place |= dict.fromkeys(members, len(groups))
                needed = tuple(sorted({need for n in members for need in first[n]}))
                runs = tuple(job for n in sorted(members) for job in atoms[n])
                groups.append(Group(runs, needed, min(fits.at_a_time, len(runs))))
    return groups


def _seconds(jobs: Sequence[Job], expected: Mapping[str, float | None]) -> dict[str, float]:
    """Seconds of each run; where nothing is known, all are alike and as good as nothing."""
    known = [seconds for job in jobs if (seconds := expected.get(job.identity)) is not None]
    usual = sum(known) / len(known) if known else 1e-9
    found = ((job.identity, expected.get(job.identity)) for job in jobs)
    return {identity: usual if seconds is None else seconds for identity, seconds in found}


def _atoms(jobs: Sequence[Job], fits: Callable[[Atom], bool]) -> list[Atom]:
    """Connected runs, where they fit into a SLURM job; single runs otherwise. In the order of the jobs."""
    leader = {job.identity: job.identity for job in jobs}
    single = {job.identity: alone(job) for job in jobs}

    def find(identity: str) -> str:
        while leader[identity] != identity:
            identity = leader[identity]
        return identity

    for job in jobs:
        for needed in job.recipe.prerequisites.values():
            if needed.identity in leader and single[needed.identity] == single[job.identity]:
                leader[find(job.identity)] = find(needed.identity)
    connected: dict[str, list[Job]] = {}
    for job in jobs:
        connected.setdefault(find(job.identity), []).append(job)
    atoms: list[Atom] = []
    for members in connected.values():
        atoms += [tuple(members)] if fits(tuple(members)) else [(job,) for job in members]
    of_run = {job.identity: number for number, atom in enumerate(atoms) for job in atom}
    try:
        TopologicalSorter({n: _needed(atom, of_run) - {n} for n, atom in enumerate(atoms)}).prepare()
    except CycleError:  # through runs of another kind, which cannot be in the same group
        return [(job,) for job in jobs]
    return atoms


def _needed(atom: Atom, of_run: Mapping[str, int]) -> set[int]:
    identities = (needed.identity for job in atom for needed in job.recipe.prerequisites.values())
    return {of_run[identity] for identity in identities if identity in of_run}


def _stages(needs: Sequence[set[int]]) -> list[int]:
    """For each atom the length of the longest chain of atoms that it needs."""
    stages = [0] * len(needs)
    for number in TopologicalSorter(dict(enumerate(needs))).static_order():
        stages[number] = max((stages[need] + 1 for need in needs[number]), default=0)
    return stages


def _with_the_same_needs(
    atoms: Iterable[int], needs: Mapping[int, tuple[int, ...]], size: Callable[[int], int], least: int
) -> list[list[int]]:
    """Atoms that wait for the same groups; few of them are put together with the next ones."""
    parts: dict[tuple[int, ...], list[int]] = {}
    for atom in atoms:
        parts.setdefault(needs[atom], []).append(atom)
    merged: list[list[int]] = []
    for _, part in sorted(parts.items()):
        if merged and sum(map(size, merged[-1])) < least:
            merged[-1] += part
        else:
            merged.append(list(part))
    return merged


def _balanced(
    atoms: Sequence[int], loads: Mapping[int, float], size: Callable[[int], int], room: Room
) -> list[list[int]]:
    """Atoms in as few parts as have room for them, of about equal loads.

    The longest atom comes first, and each goes to the part with the least load.
    """
    by_number = sum(map(size, atoms)) / room.runs
    by_time = sum(loads.values()) / room.seconds / room.at_a_time
    parts: list[list[int]] = [[] for _ in range(math.ceil(max(by_number, by_time)))]
    for atom in sorted(atoms, key=lambda atom: -loads[atom]):
        having_room = [part for part in parts if sum(map(size, part)) + size(atom) <= room.runs]
        if not having_room:
            having_room = [[]]
            parts += having_room
        min(having_room, key=lambda part: (sum(loads[other] for other in part), len(part))).append(atom)
    return [part for part in parts if part]
