"""What can be said without Ray: values, addresses where nobody is, folders that are not shared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from lacuna import registry
from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.executors import ray_cluster
from lacuna.executors.on_ray import OnRay
from lacuna.executors.ray_cluster import Cluster, check_reachable
from lacuna.executors.ray_worker import Worker
from tests.executors.jobs import follow_orders, job


def test_the_config_builds_it() -> None:
    spec = compose(CONFIGS, "reproduce", ["executor=ray", "executor.gpus=0.5", "executor.local_cpus=2"])["executor"]
    executor = registry.build("executor", spec)
    assert isinstance(executor, OnRay) and executor.gpus == 0.5 and executor.cpus == 1


@pytest.mark.parametrize(
    "key, value",
    [("cpus", 0), ("cpus", 0.5), ("gpus", -1), ("gpus", 1.5), ("gpus", "1"), ("retries", -1), ("local_gpus", 0.5)],
)
def test_values_that_cannot_be(key: str, value: object) -> None:
    with pytest.raises(LacunaError, match=rf"^executor\.{key}={value} must be null"):
        OnRay(**{key: value})  # type: ignore[arg-type]


def test_limits_are_for_this_machine() -> None:
    with pytest.raises(LacunaError, match=r"local_cpus"):
        OnRay(address="auto", local_cpus=2)


class TestAddress:
    """A cluster that is not there is found out at once: Ray would try for minutes."""

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
    def test_where_nobody_answers(self, address: str) -> None:
        with pytest.raises(LacunaError, match=r"^executor\.address=\S+: no Ray cluster answers at"):
            Cluster(address)._init(ModuleType("no Ray is needed to know"))

    @pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "ray://head:10001", "head:port"])
    def test_that_is_none(self, address: str) -> None:
        with pytest.raises(LacunaError, match=r"must be null, auto, or host:port"):
            check_reachable(address)

    def test_of_a_cluster_that_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        check_reachable("auto")  # Ray may find one
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        with pytest.raises(LacunaError, match=r"^executor\.address=auto: no Ray cluster answers at 127\.0\.0\.1:1"):
            check_reachable("auto")

    def test_that_ray_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def init(**options: object) -> None:
            raise RuntimeError("Version mismatch: ...\nand much more")

        monkeypatch.setattr(ray_cluster, "check_reachable", lambda address: None)
        other = ModuleType("ray")
        other.init = init  # type: ignore[attr-defined]
        with pytest.raises(
            LacunaError, match=r"^executor\.address=head:1 cannot be joined \(Version mismatch: \.\.\.\)"
        ):
            Cluster("head:1")._init(other)


def test_the_output_folder_must_be_the_same_everywhere(tmp_path: Path) -> None:
    [there, elsewhere] = [job(tmp_path / name, "a") for name in ("there", "elsewhere")]
    executor = OnRay(address="head:1")
    executor._write_marker(there.settings.output)
    [marker] = (tmp_path / "there").iterdir()
    worker = Worker.__new__(Worker)  # in this process, which is to stay as it is
    assert worker.do(follow_orders, there, marker).done
    refused = worker.do(follow_orders, elsewhere, tmp_path / "elsewhere" / marker.name)
    assert refused.error is not None and refused.error.startswith(f"output={tmp_path / 'elsewhere'} on ")
    assert not (tmp_path / "elsewhere").exists()
    executor.close()
    assert not marker.exists()
