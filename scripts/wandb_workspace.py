"""Lay out a workspace of W&B for the runs of lacuna, or a report on a table.

python scripts/wandb_workspace.py                               a workspace: a section for each task, runs by group
python scripts/wandb_workspace.py table=misconv/table1          a report on the runs of that table
python scripts/wandb_workspace.py project=mine entity=my-team   of another project
python scripts/wandb_workspace.py to=workspace.json             only write what would be sent

It needs a W&B key, and the package wandb-workspaces.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.extras import require
from lacuna.training.mirrors.directions import direction
from lacuna.training.mirrors.wandb_access import chosen_mode

TASKS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "classify": (
        "Classification",
        ("test/accuracy", "complete/accuracy"),
        ("validation/accuracy", "train/loss", "validation/loss"),
        ("first_layer", "imputations"),
    ),
    "density": (
        "Densities",
        ("test/nll_per_dim", "test/rmse"),
        ("validation/nll_per_dim", "validation/rmse", "train/loss"),
        ("training/imputations", "imputations"),
    ),
    "generate": (
        "Generation",
        ("test/fid", "test/fid_best"),
        ("validation/psnr", "train/reconstruction", "train/loss"),
        ("training/samples", "samples", "reconstructions"),
    ),
    "impute": (
        "Imputation",
        ("test/rmse", "test/fid"),
        ("validation/rmse", "validation/psnr", "train/loss"),
        ("training/imputations", "imputations"),
    ),
    "flow": (
        "Flows",
        ("test/bits_per_dim", "test/rmse"),
        ("validation/bits_per_dim", "validation/rmse", "train/loss"),
        ("training/imputations", "imputations"),
    ),
}
"""Task (``job_type``) -> title of its section, final metrics, curves, pictures."""
TRAINING = ("train/learning_rate", "train/step_loss", "speed/images_per_second", "speed/epoch_seconds")
KEYS = ("project", "entity", "table", "to")


def workspace(entity: str, project: str) -> Any:
    """The workspace: runs grouped by ``group``, a section for tables, for each task and for the course of training."""
    ws, wr = _package("workspaces"), _package("reports.v2")
    tables = [wr.MediaBrowser(title="Tables", media_keys=["page"]), wr.WeavePanelSummaryTable(table_name="results")]
    sections = [ws.Section(name="Tables", panels=tables, is_open=True)]
    for title, finals, curves, pictures in TASKS.values():
        panels = [*_bars(wr, finals), *_lines(wr, curves), wr.MediaBrowser(title="Pictures", media_keys=list(pictures))]
        sections.append(ws.Section(name=title, panels=panels, is_open=title == "Classification"))
    sections.append(ws.Section(name="Training", panels=_lines(wr, TRAINING)))
    return ws.Workspace(
        entity=entity,
        project=project,
        name="lacuna",
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=50),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Metric("JobType")],
            pinned_columns=["run:displayName", "config:seed.value", "summary:test/accuracy", "summary:test/rmse"],
        ),
    )


def report(entity: str, project: str, table: str) -> Any:
    """The report on a table: its page and numbers, then the curves and pictures of its runs."""
    wr = _package("reports.v2")
    # without a project of their own, run sets are of the report's
    own = wr.Runset(name="the table", filters=_filters(table, table_run=True))
    runs = wr.Runset(name="its runs", filters=_filters(table), groupby=["config.method"])
    page = wr.PanelGrid(
        runsets=[own], panels=[wr.MediaBrowser(media_keys=["page"]), wr.WeavePanelSummaryTable(table_name="results")]
    )
    blocks: list[Any] = [
        wr.P(f"Made from the runs of the group {table}, by `reproduce.py table={table} logger=wandb`."),
        wr.H1("Numbers beside the paper's"),
        page,
    ]
    for title, finals, curves, pictures in TASKS.values():
        panels = [*_bars(wr, finals), *_lines(wr, curves), wr.MediaBrowser(title="Pictures", media_keys=list(pictures))]
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        entity=entity, project=project, title=f"lacuna: {table}", description=f"Runs of {table}", blocks=blocks
    )


def _filters(group: str, *, table_run: bool = False) -> list[Any]:
    ws = _package("workspaces")
    kind = ws.Metric("JobType")
    return [ws.Metric("Group") == group, kind == "table" if table_run else kind != "table"]


def _bars(wr: Any, names: tuple[str, ...]) -> list[Any]:
    """The final metrics of the runs: the mean over the seeds of each method."""
    kinds = {"groupby": "config.method", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    return [wr.BarPlot(title=name, metrics=[name], **kinds) for name in names]


def _lines(wr: Any, names: tuple[str, ...]) -> list[Any]:
    return [wr.LinePlot(title=_title(name), x="step", y=[name]) for name in names]


def _title(name: str) -> str:
    return name + {"max": " (higher is better)", "min": " (lower is better)", None: ""}[direction(name)]


def _package(name: str) -> Any:
    return require(f"wandb_workspaces.{name}", "wandb", "scripts/wandb_workspace.py")


def _entity() -> str:
    """The user's default team.

    Raises:
        LacunaError: W&B cannot be asked.
    """
    mode, reason = chosen_mode(False)
    if mode != "online":
        raise LacunaError(f"W&B is not there ({reason or mode}): to=FILE only writes the layout.")
    return str(require("wandb", "wandb", "scripts/wandb_workspace.py").Api(timeout=20).default_entity)


def _options(arguments: list[str]) -> dict[str, str]:
    pairs = [argument.partition("=") for argument in arguments]
    for key, _, value in pairs:
        if key not in KEYS or not value:
            raise LacunaError(f"{key}={value}: give {', '.join(f'{known}=...' for known in KEYS)}.")
    return {key: value for key, _, value in pairs}


def lay_out(arguments: list[str]) -> str:
    """Save the workspace or report, or write it to a file; returns where it is.

    Raises:
        LacunaError: an unknown option; no key, no network, or a server that refuses.
    """
    given = _options(arguments)
    project, to = given.get("project", "lacuna"), given.get("to")
    entity = given.get("entity") or ("entity" if to else _entity())
    made = report(entity, project, given["table"]) if "table" in given else workspace(entity, project)
    if to:
        files.write_json(Path(to), made._to_model().model_dump(mode="json", by_alias=True, exclude_none=True))
        return to
    mode, reason = chosen_mode(False)
    if mode != "online":
        raise LacunaError(f"W&B is not there ({reason or mode}): to=FILE only writes the layout.")
    try:
        made.save()
    except Exception as error:  # of several packages, with no base in common
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LacunaError(f"W&B did not take it ({reason[:300]}): is {entity}/{project} there?") from error
    return str(made.url)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value", help=", ".join(KEYS))
    try:
        print(lay_out(parser.parse_args(argv).arguments))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
