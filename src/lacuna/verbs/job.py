"""A verb with its config folders: from overrides to its function, in this process or in a job of Hydra's launchers."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lacuna.config.folders import Configs
from lacuna.errors import LacunaError
from lacuna.runs.outside_starters import refuse_copies

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

DONE, CRASHED, MISTAKE, MORE, INTERRUPTED = 0, 1, 2, 75, 130
TERMINATED = 143
"""As a shell reports a process that SIGTERM has ended."""


@dataclass(frozen=True)
class Command:
    """One command line without its overrides. Hydra's launchers pickle it, to call it in their jobs.

    Args:
        name: of the verb, also of its base config.
        target: ``"package.module:function"``; called with the resolved config as a plain dict.
        configs: the config folders.
        config_name: the base config, :attr:`name` unless ``--config-name`` says another.
        behind: words behind ``--``, for the runs that the verb starts.
        options: the options that chose the folders and the base config, to start the same command again.
    """

    name: str
    target: str
    configs: Configs
    config_name: str
    behind: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def compose(self, overrides: Sequence[str]) -> tuple[dict[str, Any], DictConfig]:
        """The config of the verb's function, and Hydra's own settings.

        Raises:
            LacunaError: a mistake in the overrides or the config files.
        """
        from lacuna.config.compose import compose_with_hydra

        config, hydra = compose_with_hydra(self.configs, self.config_name, list(overrides))
        return self.completed(config), hydra

    def completed(self, config: dict[str, Any]) -> dict[str, Any]:
        """A composed config with the words behind ``--``.

        Raises:
            LacunaError: the verb takes none, or another base config lacks keys of the verb.
        """
        if self.config_name != self.name:
            self._check_keys(config)
        if self.behind:
            if "overrides" not in config:
                raise LacunaError(f"{self.name} takes nothing behind '--': write {self.behind[0]} before it.")
            config = {**config, "overrides": list(self.behind)}
        return config

    def _check_keys(self, config: dict[str, Any]) -> None:
        """Check that another base config has all keys of the verb's own, for its function reads them."""
        from lacuna.config.compose import compose

        missing = compose(self.configs, self.name, []).keys() - config.keys()
        if missing:
            raise LacunaError(
                f"--config-name {self.config_name} has no key {min(missing)!r}, which {self.name}.py reads: begin it "
                f"with 'defaults: [{self.name}, _self_]'."
            )

    def call(self, config: dict[str, Any], words: Sequence[str], started: float | None = None) -> int:
        """Call the verb's function; its exit code.

        Args:
            config: its first argument.
            words: the overrides as they were typed.
            started: start of the command on the monotonic clock.
        """
        module_name, _, function_name = self.target.partition(":")
        function = getattr(importlib.import_module(module_name), function_name)
        optional = {"words": list(words), "started": started, "configs": self.configs}
        parameters = inspect.signature(function).parameters
        result = function(config, **{name: value for name, value in optional.items() if name in parameters})
        return result if type(result) is int else DONE

    def __call__(self, _: Any) -> int:
        """Hydra's task function, inside a job: its exit code. Mistakes and crashes are printed where they happen.

        Composed from the job's overrides once more, so that a job gets exactly the config that was checked.
        """
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        words = list(hydra.overrides.task)
        _spread_over_gpus(hydra)
        try:
            refuse_copies()  # a launcher may start several tasks a job
            return self.call(self.compose(words)[0], words)
        except LacunaError as error:
            print_error(error)
            return MISTAKE
        except Exception:
            traceback.print_exc()
            return CRASHED


def _spread_over_gpus(hydra: HydraConf) -> None:
    """Give the jobs that joblib runs side by side one GPU each in turn; by its launcher all would have the first."""
    if hydra.runtime.choices.get("hydra/launcher") != "joblib" or "MULTIRUN" not in str(hydra.mode):
        return
    from lacuna.runs.machine import visible_gpus

    gpus = visible_gpus()
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpus[hydra.job.num % len(gpus)])


def print_error(error: LacunaError) -> None:
    """Print a mistake as one sentence; its traceback, too, if the user asks Hydra for it."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr, flush=True)
