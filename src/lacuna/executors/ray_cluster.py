"""Start or join Ray, list its machines, and leave it. Ray is imported only when it is used."""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
import signal
import site
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.executors.cluster_capacity import Node
from lacuna.extras import require

REFRESH = 5.0
"""Seconds after which the list of machines is read again; a cluster may grow."""

CONNECT_WITHIN = 5.0
"""Seconds in which a cluster must answer. Ray itself would try for minutes."""

OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for Ray's objects: jobs and outcomes are small."""


class Cluster:
    """A Ray cluster; nothing happens before :meth:`connect`.

    Args:
        address: None to start one on this machine; ``auto`` or ``host:port`` to join one.
        cpus, gpus: of a cluster that is started; None: all of the machine.
    """

    def __init__(self, address: str | None = None, cpus: int | None = None, gpus: int | None = None) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self._ray: Any = None
        self._started_ours = False
        self._nodes: list[Node] = []
        self._listed_at = -math.inf

    @property
    def connected(self) -> bool:
        """Whether this process is connected to Ray."""
        return self._ray is not None

    def connect(self) -> Any:
        """The module ``ray``, connected; the first call starts or joins a cluster, which takes some seconds.

        If this process is connected to Ray already, that connection is used and left open.

        Raises:
            LacunaError: there is no such cluster, or this machine cannot use it.
        """
        if self._ray is None:
            if self.address is None:
                require_token()
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray = require("ray", "ray", "executor=ray")
            if not ray.is_initialized():
                self._init(ray)
                self._started_ours = True
                _silence_ray()
            self._ray = ray
        return self._ray

    def _init(self, ray: Any) -> None:
        options: dict[str, Any] = {
            "namespace": "lacuna",
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "runtime_env": {"env_vars": {"PYTHONPATH": import_path()}},
        }
        if self.address is None:  # must be given: otherwise RAY_ADDRESS counts
            options |= {"address": "local", "num_cpus": self.cpus, "num_gpus": self.gpus}
            options["object_store_memory"] = OBJECT_STORE
        else:
            check_reachable(self.address)
            options["address"] = self.address
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = "null: Ray cannot be started here" if self.address is None else f"{self.address} cannot be joined"
            raise LacunaError(f"executor.address={where} ({reason}); executor=inline needs no Ray.") from error
        finally:
            if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray replaces the handler

    def nodes(self) -> list[Node]:
        """The machines that are alive now."""
        if time.monotonic() - self._listed_at > REFRESH:
            alive = [node["Resources"] for node in self.connect().nodes() if node["Alive"]]
            self._nodes = [Node(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in alive]
            self._listed_at = time.monotonic()
        return self._nodes

    def gpu_kinds(self) -> set[str]:
        """The kinds of GPUs of the machines that are alive now, as far as Ray knows them."""
        alive = [node["Resources"] for node in self.connect().nodes() if node["Alive"]]
        return {key for found in alive if found.get("GPU") for key in found if key.startswith("accelerator_type:")}

    def call_on_gpu(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function answers that is called on some machine of the cluster, with a whole GPU for itself.

        Raises:
            LacunaError: it failed, or its machine was lost.
        """
        ray = self.connect()
        options = {"num_cpus": 1, "num_gpus": 1, "max_retries": 0}
        try:
            return ray.get(ray.remote(function).options(**options).remote(*arguments))
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise LacunaError(lines[-1].strip()) from error

    def interrupt(self, node: str, pid: int) -> None:
        """Send SIGINT to a process on a machine of the cluster; does not wait for its effect."""
        affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        there = {"scheduling_strategy": affinity(node, soft=False), "num_cpus": 0, "max_retries": 0}
        self.connect().remote(_interrupt).options(**there).remote(pid)

    def close(self) -> None:
        """Stop a cluster that was started here, or leave one that was joined."""
        ray, self._ray, self._listed_at = self._ray, None, -math.inf
        if ray is not None and self._started_ours:
            self._started_ours = False
            ray.shutdown()


def require_token() -> None:
    """Protect the cluster with a random token. Ray listens on the network, and whoever can connect can run code.

    By itself Ray would keep a token in the home folder. It reads the environment when it is imported, so this comes
    first. Variables that the user has set are left unchanged.
    """
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _silence_ray() -> None:
    """Keep log lines of lost workers off stdout; no option of Ray does. They remain in its log files."""
    ray_worker: Any = importlib.import_module("ray._private.worker")
    if hasattr(ray_worker, "print_to_stdstream"):
        ray_worker.print_to_stdstream = lambda *_, **__: None


def _interrupt(pid: int) -> None:
    os.kill(pid, signal.SIGINT)


def check_reachable(address: str) -> None:
    """Check quickly that a cluster answers.

    Raises:
        LacunaError: none does, or the address is invalid.
    """
    configured = address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _recorded_address()
        if not address or ":" not in address:
            return  # Ray searches for processes and fails at once if there are none
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise LacunaError(f"executor.address={configured} must be null, auto, or host:port of a Ray cluster's head.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_WITHIN).close()
    except OSError as error:
        raise LacunaError(
            f"executor.address={configured}: no Ray cluster answers at {address} ({error.strerror or error}); "
            "leave executor.address null to use this machine."
        ) from error


def _recorded_address() -> str:
    """The address that ``ray start`` recorded on this machine, perhaps long ago."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def import_path() -> str:
    """This process's ``sys.path`` as a PYTHONPATH, without the entries that every interpreter has."""
    paths = sysconfig.get_paths()
    packages = {paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()}
    builtin = {paths["stdlib"], paths["platstdlib"], os.path.join(paths["platstdlib"], "lib-dynload")}
    entries = [Path(os.path.abspath(entry)) for entry in sys.path]
    ours = [e for e in entries if str(e) not in builtin and not any(e.is_relative_to(place) for place in packages)]
    return os.pathsep.join(dict.fromkeys(str(entry) for entry in ours if entry.is_dir()))
