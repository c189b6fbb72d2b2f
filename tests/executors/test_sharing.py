"""Which share of a GPU a job asks for, and that what runs on one never needs more memory than it has."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import opening, shared_cards
from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.cards import Cards
from lacuna.executors.inline import Inline
from lacuna.executors.opening import open_executor, shares_gpus
from lacuna.executors.processes import Processes
from lacuna.executors.shared_cards import SharedCards
from lacuna.executors.sharing import choice_text, learn, probe_request, with_shares
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.throughput.measurements import FILL, Measurements
from lacuna.throughput.step_kinds import kind_key, kinds_of
from tests.throughput.made_up import GIB, made, row

ZERO, PARTIAL, MISCONV = (made(f"experiment=mnist_{name}") for name in ("zero", "partial", "misconv"))
FAST = {"n2": 10.0, "n4": 10.0, "n8": 10.0}


def asks(recipe: Recipe, gpus: float = 1.0, devices: int = 1) -> Job:
    return Job(recipe, Settings(trainer={"devices": devices}), Resources(2, gpus))


def known(memory: float = 100.0) -> Measurements:
    rows = {kind_key(ZERO): row(10.0, 1.0, **FAST), kind_key(PARTIAL): row(10.0, 20.0, **FAST)}
    return Measurements("A GPU", int(memory * GIB), rows)


def test_every_kind_has_its_own_share() -> None:
    timing = made("experiment=timing")
    jobs = [asks(ZERO), asks(PARTIAL), asks(MISCONV), asks(timing, 0.25), asks(ZERO, 2.0, 2), asks(ZERO, 0.0)]
    shared = with_shares(jobs, known(), 4, lambda job, share: job.resources.cpus)
    # eight fit; four times 20 GiB do; not measured: the lower median of 8 and 4 is 4, and four of the largest fit;
    # whole ones for what measures time and for several devices; none where none is asked for
    assert [job.resources.gpus for job in shared] == [1 / 8, 1 / 4, 1 / 4, 1, 2, 0]
    assert [job.recipe for job in shared] == [job.recipe for job in jobs]
    nothing = with_shares(jobs[:2], None, 4, lambda job, share: round(8 * share))
    assert [job.resources for job in nothing] == [Resources(2, 0.25)] * 2


def test_what_is_asked_of_the_probe() -> None:
    assert probe_request([asks(ZERO), asks(ZERO, 2.0, 2)], 1e9) is None  # nothing to share
    found = probe_request([asks(ZERO), asks(ZERO.with_seed(1)), asks(MISCONV)], 100.0)
    assert found is not None and found.seconds == 20  # of a time limit of 100 s
    assert {kind.key: kind.runs for kind in found.kinds} == {kind_key(ZERO): 2, kind_key(MISCONV): 1}
    endless = probe_request([asks(ZERO), asks(MISCONV)], float("inf"))
    assert endless is not None and endless.seconds == 240


def test_one_line_says_what_was_measured_and_chosen() -> None:
    kinds, _ = kinds_of([ZERO, PARTIAL, MISCONV])
    text = choice_text(kinds, known(), 4)
    assert "\n" not in text and "A GPU, 100 GiB free" in text
    assert "8 of mnist classify zero classifier (ms per step 1: 10, 2: 10, 4: 10, 8: 10; 1.0 GiB)" in text
    assert "4 of mnist classify partial classifier" in text and text.endswith(
        "4 of the others (median, as far as memory allows)"
    )
    assert choice_text(kinds, Measurements("A GPU", GIB), 4).endswith("4 of the others (nothing measured)")
    assert choice_text(kinds, None, 1).endswith("not known: each run has one")


def test_a_run_that_took_more_is_given_more_next_time(tmp_path: Path) -> None:
    job = Job(ZERO, Settings(output=tmp_path), Resources(1, 1 / 8))
    found = known()
    learn(found, job, Outcome(ZERO.identity, memory=GIB // 8))
    assert found.number(kind_key(ZERO)) == 8
    learn(found, job, Outcome(ZERO.identity, memory=16 * GIB))
    assert found.number(kind_key(ZERO)) == 4 == Measurements.load(tmp_path, "A GPU").number(kind_key(ZERO))
    failed = Outcome(PARTIAL.identity, "torch.OutOfMemoryError: CUDA out of memory. Tried to")
    for _ in range(2):  # two of one share are no reason to halve it twice
        learn(found, Job(PARTIAL, job.settings, Resources(1, 1 / 4)), failed)
    assert found.number(kind_key(PARTIAL)) == 2
    learn(found, Job(MISCONV, job.settings, Resources(1, 1 / 4)), failed)  # never measured
    learn(None, job, failed)


def test_cards_are_filled_evenly_and_never_overfilled() -> None:
    cards = Cards(["3", "5"])
    assert cards.places(0.25) == 8 and cards.places(1 / 3) == 6 and cards.places(2) == 1
    for expected in ("3", "5", "3", "5"):
        found = cards.find(0.5)
        assert found == (expected,)
        cards.take(found, 0.5)
    assert cards.find(0.125) is None and cards.places(0.125) == 0
    cards.give_back(("5",), 0.5)
    assert cards.find(1.0) is None and cards.find(0.25) == ("5",) and cards.find(2) is None
    thirds = Cards(["0"])
    for _ in range(3):
        thirds.take(("0",), 1 / 3)
    assert thirds.find(0.01) is None
    for _ in range(3):
        thirds.give_back(("0",), 1 / 3)
    assert thirds.find(1.0) == ("0",) and thirds.find(2.0) is None


class Imagined(Inline):
    """A worker whose jobs end when they are told to; it holds its memory until it is closed."""

    alive: list[Imagined]
    held: str

    def submit(self, job: Job) -> None:
        self._job = job

    @property
    def busy(self) -> bool:
        return self._job is not None

    def close(self) -> None:
        Imagined.alive.remove(self)
        super().close()


def test_the_memory_of_what_lives_on_a_card_never_exceeds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of random jobs of random kinds; an idle process keeps its memory, and so counts as well."""
    draw = random.Random(1)
    memory, total = {}, 40 * GIB
    rows = {}
    for number in range(6):
        kind = made("experiment=mnist_zero", f"net.training.batch_size={8 + number}")
        rows[kind_key(kind)] = row(
            10.0, draw.uniform(0.5, 30), **{f"n{n}": draw.uniform(10, 10 * n) for n in (2, 4, 8)}
        )
        memory[kind.identity] = (kind, rows[kind_key(kind)]["memory"])
    measured = Measurements("A GPU", total, rows)
    monkeypatch.setattr(shared_cards, "Inline", Imagined)
    Imagined.alive = []
    executor = SharedCards(cards=["0", "1"], measure=lambda request: measured)
    started = Inline.__init__

    def start(self: Imagined, *args: object, **kwargs: object) -> None:
        started(self, *args, **kwargs)  # type: ignore[arg-type]
        Imagined.alive.append(self)

    monkeypatch.setattr(Imagined, "__init__", start)
    kinds = [kind for kind, _ in memory.values()]
    jobs = executor.prepare([asks(draw.choice(kinds).with_seed(seed)) for seed in range(2000)], float("inf"))
    executor.check({job.resources for job in jobs})
    sizes = {kind_key(kind): size for kind, size in memory.values()}
    together = 0
    for job in jobs:
        while not (executor.slots > 0 and executor.takes(job)):
            busy = [worker for worker in Imagined.alive if worker.busy]
            assert busy  # what fits an empty card is never refused
            draw.choice(busy)._job = None
        executor.submit(job)
        held: dict[str, float] = {}
        for worker in Imagined.alive:  # whether the executor still knows it or not
            if worker._job is not None:
                worker.held = kind_key(worker._job.recipe)
            held[str(worker.device)] = held.get(str(worker.device), 0) + sizes[worker.held]
        assert all(size <= FILL * total for size in held.values())
        together = max(together, sum(worker.busy for worker in Imagined.alive))
    assert together >= 4  # and they do share


def test_who_opens_what(monkeypatch: pytest.MonkeyPatch) -> None:
    def config(name: str, accelerator: str = "auto", **more: object) -> dict[str, dict[str, object]]:
        kinds = {"inline": "inline.Inline", "processes": "processes.Processes"}
        executor = {"name": name, "type": kinds[name], "cpus": None, "gpus": "auto", "retries": 1, **more}
        return {"executor": executor, "trainer": {"accelerator": accelerator}}

    monkeypatch.setattr(opening, "gpu_count", lambda: 0)
    assert (
        type(open_executor(config("inline"))) is Inline
        and type(open_executor(config("processes", runs=None))) is Processes
    )
    monkeypatch.setattr(opening, "gpu_count", lambda: 2)
    monkeypatch.setattr(shared_cards, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(shared_cards, "cores", lambda: 8)
    for name in ("inline", "processes"):
        found = open_executor(config(name, cpus=3))
        assert isinstance(found, SharedCards) and found.retries == 1 and found.resources(1).cpus == 3
        assert found.resources(2).gpus == 2 and found.resources(1).gpus < 1
        with pytest.raises(LacunaError, match=r"trainer\.devices=3: this machine has 2 GPUs"):
            found.check([Resources(1, 3.0)])
        assert type(open_executor(config(name, "cpu"))) is not SharedCards
        assert type(open_executor(config(name, gpus=None))) is not SharedCards
    assert type(open_executor(config("processes", runs=8))) is Processes
    assert shares_gpus(config("inline")) and not shares_gpus(config("inline", gpus=1))
