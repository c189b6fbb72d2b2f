"""Shares of GPUs on the real Ray, measured where a GPU is (Ray only counts them here)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.on_ray import OnRay
from lacuna.executors.ray_cluster import Cluster
from lacuna.runs.settings import Settings
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.probe import ProbeRequest
from tests.executors.jobs import do, follow_orders, job, told
from tests.throughput.made_up import GIB, made, row

pytestmark = pytest.mark.slow

ZERO, PARTIAL = made("experiment=mnist_zero"), made("experiment=mnist_partial")


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """Ray, started once for all tests here."""
    cluster = Cluster(None, 4, 2)
    cluster.connect()
    yield
    cluster.close()


def measure(request: ProbeRequest) -> Measurements:
    """What would be measured: of all kinds but the last, as fast with four."""
    rows = {kind.key: row(10.0, 2.0, n2=10.0, n4=10.0) for kind in request.kinds[:-1]}
    return Measurements(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']} of {os.getpid()}", 7 * GIB, rows)


def fail(request: ProbeRequest) -> Measurements:
    raise LacunaError("no driver.")


def jobs() -> list[Job]:
    settings = Settings(trainer={"accelerator": "auto"})
    return [Job(recipe.with_seed(seed), settings, Resources(1, 1.0)) for recipe in (ZERO, PARTIAL) for seed in (0, 1)]


def test_runs_get_the_shares_that_were_measured_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with OnRay(gpus="auto", work=follow_orders, measure=measure) as executor:
        assert executor.resources(1).gpus == 1 and executor.resources(2).gpus == 2
        shared = executor.prepare(jobs(), float("inf"))
        # two of 2 GiB fit into 90 % of 7 GiB with a measured number; of what was not measured, as many as the median
        assert [each.resources for each in shared] == [Resources(1, 0.5)] * 4
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "GPU 0 of " in line or "GPU 1 of " in line
        assert f"of {os.getpid()}" not in line  # in another process, with one GPU
        executor.check({each.resources for each in shared})
        assert executor.slots == 4 + 1


@pytest.mark.parametrize("why", ["measured nothing", "several kinds", "not asked"])
def test_otherwise_each_run_has_a_whole_one(why: str, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    if why == "several kinds":
        kinds = {"accelerator_type:A100", "accelerator_type:T4"}
        monkeypatch.setattr(Cluster, "gpu_kinds", lambda cluster: kinds)
    with OnRay(gpus=None if why == "not asked" else "auto", measure=fail) as executor:
        assert [each.resources.gpus for each in executor.prepare(jobs(), float("inf"))] == [1.0] * 4
    said = capsys.readouterr().err
    expected = {"measured nothing": "no driver.): each run has one", "several kinds": "(A100, T4)", "not asked": ""}
    assert expected[why] in said and bool(said) == (why != "not asked")


def too_little_memory(job: Job) -> Outcome:
    """What a run does whose share is too small."""
    outcome = follow_orders(job)
    failed = Outcome(job.identity, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate")
    return failed if job.resources.gpus < 1 else outcome


def test_a_run_out_of_memory_goes_on_with_a_whole_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OnRay(gpus="auto", work=too_little_memory) as executor:
        assert do(executor, job(tmp_path, "a", Resources(1, 0.25)))[0].done
        assert len(told(tmp_path / "a")) == 2
    assert "a whole one" in capsys.readouterr().err
    with OnRay(gpus=0.25, work=too_little_memory) as executor:  # the user's own share stays
        assert not do(executor, job(tmp_path, "b", Resources(1, 0.25)))[0].done
