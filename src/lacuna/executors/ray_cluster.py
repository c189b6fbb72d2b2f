"""Ray itself: started on this machine or joined, what it has, and how it is left again. Imported only when used."""

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
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.executors.cluster_capacity import Node

REFRESH = 5.0
"""Seconds for which the list of machines is believed; a cluster may grow."""

REACH = 5.0
"""Seconds in which a cluster must answer. Ray itself tries for minutes when nobody is there."""

OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for Ray's objects: jobs and outcomes are small."""


class Cluster:
    """The Ray that jobs are placed on; nothing happens before :meth:`connect`.

    Args:
        address: None to start one on this machine; ``auto`` or ``host:port`` to join one.
        cpus, gpus: what a started one is to have; None: what the machine has.
    """

    def __init__(self, address: str | None = None, cpus: int | None = None, gpus: int | None = None) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self._ray: Any = None
        self._ours = False
        self._nodes: list[Node] = []
        self._looked = -math.inf

    @property
    def connected(self) -> bool:
        """Whether there is a Ray to talk to."""
        return self._ray is not None

    def connect(self) -> Any:
        """The module ``ray``, connected; the first call starts or joins a cluster, which takes some seconds.

        A Ray that this process has connected to before is taken as it is, and left so.

        Raises:
            LacunaError: there is no such cluster, or it cannot be used from here.
        """
        if self._ray is None:
            if self.address is None:
                keep_out_others()
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray = importlib.import_module("ray")
            if not ray.is_initialized():
                self._init(ray)
                self._ours = True
                _hush()
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
        if self.address is None:  # not left out: RAY_ADDRESS would count then
            options |= {"address": "local", "num_cpus": self.cpus, "num_gpus": self.gpus}
            options["object_store_memory"] = OBJECT_STORE
        else:
            reach(self.address)
            options["address"] = self.address
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = "null: Ray cannot be started here" if self.address is None else f"{self.address} cannot be joined"
            raise LacunaError(f"executor.address={where} ({reason}); executor=inline does without Ray.") from error
        finally:
            if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in its place

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        if time.monotonic() - self._looked > REFRESH:
            alive = [node["Resources"] for node in self.connect().nodes() if node["Alive"]]
            self._nodes = [Node(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in alive]
            self._looked = time.monotonic()
        return self._nodes

    def interrupt(self, node: str, pid: int) -> None:
        """Press Ctrl-C in a process on a machine of the cluster; does not wait for what comes of it."""
        affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        there = {"scheduling_strategy": affinity(node, soft=False), "num_cpus": 0, "max_retries": 0}
        self.connect().remote(_interrupt).options(**there).remote(pid)

    def close(self) -> None:
        """Stop what was started here; a cluster that was joined goes on without us."""
        ray, self._ray, self._looked = self._ray, None, -math.inf
        if ray is not None and self._ours:
            self._ours = False
            ray.shutdown()


def keep_out_others() -> None:
    """Ray listens on the network, and whoever may talk to it may run code: let only us and our workers know the word.

    By itself Ray would keep one in the home folder. It reads the environment when it is imported, so this comes first;
    what the user has set there, for a cluster whose members have agreed on a word, say, is left as it is.
    """
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _hush() -> None:
    """Ray prints log lines of lost workers and machines on stdout, whatever it is told; they stay in its log files."""
    inside: Any = importlib.import_module("ray._private.worker")
    if hasattr(inside, "print_to_stdstream"):
        inside.print_to_stdstream = lambda *_, **__: None


def _interrupt(pid: int) -> None:
    os.kill(pid, signal.SIGINT)


def reach(address: str) -> None:
    """Find out quickly whether anybody answers.

    Raises:
        LacunaError: nobody does, or it is no address.
    """
    asked = address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _started_here()
        if not address or ":" not in address:
            return  # Ray looks for processes, and says at once if there are none
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise LacunaError(f"executor.address={asked} must be null, auto, or host:port of a Ray cluster's head.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except OSError as error:
        raise LacunaError(
            f"executor.address={asked}: no Ray cluster answers at {address} ({error.strerror or error}); "
            "leave executor.address null to use this machine."
        ) from error


def _started_here() -> str:
    """What ``ray start`` noted on this machine, perhaps long ago."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def import_path() -> str:
    """This process's ``sys.path`` as a PYTHONPATH, without what every interpreter has by itself."""
    paths = sysconfig.get_paths()
    packages = {paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()}
    builtin = {paths["stdlib"], paths["platstdlib"], os.path.join(paths["platstdlib"], "lib-dynload")}
    entries = [Path(os.path.abspath(entry)) for entry in sys.path]
    ours = [e for e in entries if str(e) not in builtin and not any(e.is_relative_to(place) for place in packages)]
    return os.pathsep.join(dict.fromkeys(str(entry) for entry in ours if entry.is_dir()))
