"""Tables of FID: each number with its own protocol, and the curve it is the best of."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from lacuna.report.curves import panels_of
from lacuna.report.table_notes import _metrics, protocol
from lacuna.tables.gather import TableResult, gather
from tests.tables.finished import finish, plan
from tests.tables.planning import spec

ROWS = {"zero": {}, "gt": {"reference": True}}
COLUMNS = {"square": {}, "noise": {"choose": ["mask=noise"]}}


def table(root: Path, output: Path, said: dict[str, str]) -> TableResult:
    """Finished auto-encoders behind two masks; ``said``: name of the mask -> protocol of their FID."""
    changes = {"metric": "test/fid_best", "better": "min", "rows": ROWS, "columns": COLUMNS}
    made = plan(root, output, spec(cell=["experiment=digits_wae", "stem={row}"], **changes))
    for run in made.runs.values():
        history = [{"epoch": epoch, "test/fid": 9.0 - epoch, "train/loss": 1.0} for epoch in range(3)]
        path = finish(run.recipe, output, {"test/fid_best": 7.0}, history=history)
        record = json.loads((path / "metrics.json").read_text())
        record["protocols"] = {"test/fid_best": said.get(run.recipe.config["mask"]["name"], "FID of gt")}
        (path / "metrics.json").write_text(json.dumps(record))
    return gather(made)[0]


def test_the_curve_of_the_best_fid_is_that_of_fid(digits_root: Path, tmp_path: Path) -> None:
    panels = panels_of(table(digits_root, tmp_path, {}))
    assert [panel.y_label for panel in panels] == ["test fid"] * len(panels)
    assert panels[0].lines[0].points == [(1.0, 9.0), (2.0, 8.0), (3.0, 7.0)]


def test_every_data_set_has_its_own_protocol() -> None:
    """Where feature nets differ; and once only where they do not."""

    def run(data: str, mask: str, how: str) -> SimpleNamespace:
        content = {"data": {"name": data}}
        return SimpleNamespace(mask=mask, recipe=SimpleNamespace(config=content), protocol=lambda metric: how)

    def said(*runs: SimpleNamespace) -> list[tuple[str, str]]:
        cell = SimpleNamespace(metric="test/fid", better="min")
        return _metrics(SimpleNamespace(cells=[SimpleNamespace(cell=cell, done=[one]) for one in runs]))  # type: ignore

    mnist, svhn, gt = run("mnist", "square", "LeNet"), run("svhn", "square", "ResNet"), run("mnist", "none", "gt")
    wanted = [("test/fid, mnist", "LeNet; lower is better"), ("test/fid, svhn", "ResNet; lower is better")]
    assert said(gt, mnist, svhn) == wanted
    assert said(gt, mnist) == [("test/fid", "LeNet; lower is better")]


def test_the_protocol_of_what_is_behind_a_mask_is_printed(digits_root: Path, tmp_path: Path) -> None:
    said = dict(protocol(table(digits_root, tmp_path, {"square": "FID in LeNet", "noise": "FID in LeNet"})))
    assert said["test/fid_best"] == "FID in LeNet; lower is better"
