"""Law: an interrupt during training costs no step that was taken, and goes on bit for bit as if it had not come."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lacuna.training.checkpoint import load
from lacuna.training.interrupts import Interrupts, OneInterrupt
from tests.runs.tiny import BATCHES, EPOCHS, Tiny, fit, outcome
from tests.training.test_checkpoint import assert_equal, uninterrupted


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Ctrl-C and SIGTERM as an interpreter starts with them; what the tests, and Lightning, make of it is undone."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return uninterrupted(tmp_path_factory.mktemp("reference"))


class Told(Tiny):
    """Told to stop in the middle of a step, or after an epoch's last one."""

    def __init__(self, where: str, *numbers: int) -> None:
        super().__init__(where)
        self.numbers = numbers

    def maybe_die(self, where: str, number: int) -> None:
        if self.die_at == f"{where}{number}":
            for each in self.numbers:
                os.kill(os.getpid(), each)


def stop(folder: Path, module: Tiny, **arguments: Any) -> int:
    """Train until it is stopped; how many steps the checkpoint has."""
    with pytest.raises(SystemExit) as stopped:  # what Lightning makes of KeyboardInterrupt
        fit(folder, module, every_seconds=1e9, **arguments)
    assert isinstance(stopped.value.__context__, KeyboardInterrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(load(folder / "checkpoints" / "last.ckpt", "abc")["global_step"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 2, BATCHES - 1, BATCHES, EPOCHS * BATCHES - 1])
def test_the_step_it_came_in_is_the_last_and_is_kept(step: int, number: int, reference: Any, tmp_path: Path) -> None:
    assert stop(tmp_path, Told(f"step{step}", number)) == step + 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    module = Tiny()
    assert_equal(outcome(tmp_path, module, fit(tmp_path, module)), reference)


def test_again_and_again(reference: Any, tmp_path: Path) -> None:
    for number, place in enumerate(["start0", "step1", "step2", "after3", "val0", "end1", "step13"]):
        steps = stop(tmp_path, Told(place, signal.SIGINT))
        assert steps == [1, 2, 3, 4, 5, 10, 14][number]
    module = Tiny()
    assert_equal(outcome(tmp_path, module, fit(tmp_path, module)), reference)


def test_where_no_exact_checkpoint_can_be_taken_it_waits_for_one_that_can(tmp_path: Path) -> None:
    assert stop(tmp_path, Told("step1", signal.SIGINT), accumulate_grad_batches=5) == 1  # one optimiser step an epoch


def test_pressed_twice_it_stops_at_once(tmp_path: Path) -> None:
    module = Told("step7", signal.SIGINT, signal.SIGINT)
    assert stop(tmp_path, module) == BATCHES  # the end of the epoch before
    assert module.trainer.fit_loop.total_batch_idx == 7


def test_a_worker_is_told_by_its_terminal_and_by_its_parent(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, OneInterrupt())
    assert stop(tmp_path, Told("step7", signal.SIGINT, signal.SIGINT)) == 8


def test_a_step_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    class Endless(Told):
        def maybe_die(self, where: str, number: int) -> None:
            super().maybe_die(where, number)
            if self.die_at == f"{where}{number}":
                callback: Any = self.trainer.callbacks[0]
                assert callback.interrupts.requested
                time.sleep(60)
                ended.append(True)

    ended: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lacuna.training.resume.Interrupts", lambda: Interrupts(patience=0.1))
        assert stop(tmp_path, Endless("step6", signal.SIGINT)) == BATCHES
    assert ended == []


def test_what_is_judged_after_the_training_is_interrupted_at_once(tmp_path: Path) -> None:
    fit(tmp_path, Tiny())
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_nothing_is_changed_in_another_thread_or_where_ctrl_c_is_ignored() -> None:
    def install() -> None:
        before = signal.getsignal(signal.SIGINT)
        interrupts = Interrupts()
        interrupts.install()
        assert signal.getsignal(signal.SIGINT) == before
        interrupts.remove()
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install()
    assert done == [True, True]
