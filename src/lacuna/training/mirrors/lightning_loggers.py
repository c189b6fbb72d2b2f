"""Mirrors by Lightning's own loggers: TensorBoard, a CSV file, MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from lacuna.runs.mirror_options import MirrorOptions
from lacuna.training.mirrors.base import DONE, INTERRUPTED, Entry, Mirror, Row, RunFacts


class TensorBoardMirror(Mirror):
    """Event files in the run's ``tensorboard/``: ``tensorboard --logdir outputs/runs`` shows all runs."""

    name = "tensorboard"

    def __init__(self, facts: RunFacts, options: MirrorOptions, entry: Entry) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger

        self.facts = facts
        self.logger = TensorBoardLogger(str(facts.folder / "tensorboard"), name="", version="", default_hp_metric=False)

    def log(self, row: Row, step: int) -> None:
        """Add scalars."""
        self.logger.log_metrics(dict(row), step)

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Add images."""
        import numpy as np
        from PIL import Image

        for name, picture in pictures.items():
            image = Image.open(picture) if isinstance(picture, Path) else picture
            pixels = np.asarray(image.convert("RGB"))
            self.logger.experiment.add_image(name, pixels, step, dataformats="HWC")

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Add the final metrics as scalars, and with the config as hyper-parameters."""
        self.logger.log_metrics(dict(metrics), step)
        final = {f"final/{name}": value for name, value in metrics.items()}
        self.logger.log_hyperparams(dict(self.facts.config), final)

    def close(self, exit_code: int) -> None:
        """Write what is buffered."""
        self.logger.experiment.close()


class CSVMirror(Mirror):
    """``csv/metrics.csv`` in the run's folder: a column for each metric. It is written anew by every attempt."""

    name = "csv"
    keeps_lines = False

    def __init__(self, facts: RunFacts, options: MirrorOptions, entry: Entry) -> None:
        from pytorch_lightning.loggers import CSVLogger

        folder = facts.folder / "csv"
        for name in ("metrics.csv", "hparams.yaml"):  # Lightning would warn of them
            (folder / name).unlink(missing_ok=True)
        self.logger = CSVLogger(str(facts.folder), name="csv", version="", flush_logs_every_n_steps=1)
        self.logger.log_hyperparams(dict(facts.config))

    def log(self, row: Row, step: int) -> None:
        """Append a line; the file is written anew when there is a new column."""
        self.logger.log_metrics(dict(row), step)
        self.logger.save()

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Do nothing: pictures are in the run's folder."""

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line with the final metrics."""
        self.log(metrics, step)

    def close(self, exit_code: int) -> None:
        """Write what is left."""
        self.logger.save()


class MLflowMirror(Mirror):
    """A run of MLflow: at ``logger.tracking_uri``, MLFLOW_TRACKING_URI, or as files in ``output/mlruns``."""

    name = "mlflow"

    def __init__(self, facts: RunFacts, options: MirrorOptions, entry: Entry) -> None:
        from pytorch_lightning.loggers import MLFlowLogger

        uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        if not uri or uri.startswith("file:"):
            # MLflow 3 wants to be asked for its file store, the only one that needs no server and no database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = uri or (facts.output.resolve() / "mlruns").as_uri()
        known = str(entry.get("run") or "") if entry.get("uri") == uri else ""
        self.keeps_lines = bool(known)
        self.facts, self.uri = facts, uri
        tags = {"lacuna.group": facts.group, "lacuna.task": facts.job_type, "lacuna.tags": ", ".join(facts.tags)}
        self.logger = MLFlowLogger(
            experiment_name=options.project, run_name=facts.name, tracking_uri=uri, tags=tags, run_id=known or None
        )
        facts.output.mkdir(parents=True, exist_ok=True)
        with FileLock(facts.output / ".mlflow.lock"):  # runs that start together make one experiment
            self.client, self.run_id = self.logger.experiment, str(self.logger.run_id)
        if known:
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.logger.log_hyperparams(dict(facts.config))

    def log(self, row: Row, step: int) -> None:
        """Log metrics."""
        self.logger.log_metrics({name: float(value) for name, value in row.items()}, step)

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Log pictures as artifacts, those of the training under their step."""
        for name, picture in pictures.items():
            if isinstance(picture, Path):
                self.client.log_artifact(self.run_id, str(picture), "pictures")
            else:
                self.client.log_image(self.run_id, picture, artifact_file=f"pictures/{name}/{step:08d}.png")

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the final metrics."""
        self.log(metrics, step)

    def store(self, kind: str, files: Sequence[Path]) -> None:
        """Log artifacts."""
        for path in files:
            self.client.log_artifact(self.run_id, str(path), kind)

    def remembered(self) -> Entry:
        """The run and where it is."""
        return {"run": self.run_id, "uri": self.uri}

    def close(self, exit_code: int) -> None:
        """End the run."""
        status = {DONE: "FINISHED", INTERRUPTED: "KILLED"}.get(exit_code, "FAILED")
        self.client.set_terminated(self.run_id, status)
