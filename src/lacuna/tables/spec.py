"""The specification of a table: rows, columns, the experiment of each cell, the metric and the paper's numbers.

A table's config (``configs/table/...``) reads::

    name: misconv/table1
    title: Accuracy on incomplete images
    paper: misconv/table1            # key of the printed numbers in papers.yaml; null: none
    metric: test/accuracy
    better: max
    digits: 3
    cell: ["experiment={column}_{row}"]
    columns:
      mnist: {label: MNIST}
    rows:
      zero: {label: zero imputation}
      partial: {label: partial convolution, paper: pc}
      gt: {label: complete images (upper bound), reference: true}

``compare: rows`` compares the cells of a row instead of a column. ``resources: {cpus: 1}`` is the request of a run if
the executor's config does not say.

``only: {rows: [gt, zero]}`` (or ``columns``) selects rows of those that other configs define, in this order.

``figure: {kind: boxes, ...}`` makes it a figure (:mod:`lacuna.report.figures`). It is planned like a table, for the
first seed only, and drawn from the files of its runs instead of their metrics.

``{row}`` and ``{column}`` are replaced by the key, or by its ``as``. A row or column may add ``choose`` (group choices
such as ``mask=noise``) and ``set`` (values by dotted key). It may have its own ``metric``, ``better`` and ``digits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lacuna.errors import LacunaError
from lacuna.papers import paper_table

AXIS_KEYS = ("label", "as", "paper", "choose", "set", "metric", "better", "digits", "reference", "note")
TABLE_KEYS = (
    "name",
    "title",
    "note",
    "paper",
    "metric",
    "better",
    "digits",
    "cell",
    "compare",
    "columns",
    "rows",
    "only",
    "resources",
    "figure",
)
FIGURES: Mapping[str, tuple[str, ...]] = {
    "panels": ("pictures",),
    "first_layers": ("maps",),
    "masks": ("images",),
    "boxes": ("series",),
    "recovered": ("images", "skip", "error"),
}
"""Kinds of figures -> their options."""
OF_DATA = ("masks",)
"""Kinds of figures that show data; their cells have no runs."""


@dataclass(frozen=True)
class Axis:
    """One row or one column."""

    key: str
    label: str
    value: str
    paper: str
    choose: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    better: str | None = None
    digits: int | None = None
    reference: bool = False
    note: str = ""


@dataclass(frozen=True)
class TableSpec:
    """A table as its config defines it."""

    name: str
    title: str
    note: str
    paper: str | None
    metric: str
    better: str
    digits: int
    cell: tuple[str, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    compare: str = "columns"
    cpus: int | None = None
    figure: Mapping[str, Any] | None = None
    selection: tuple[str, ...] = ()
    """How rows or columns differ from those of the config, in words; empty if they do not."""

    def choices(self, row: Axis, column: Axis) -> tuple[str, ...]:
        """The group choices of a cell's configuration."""
        choices = [*self.cell, *column.choose, *row.choose]
        return tuple(choice.format(row=row.value, column=column.value) for choice in choices)

    def values(self, row: Axis, column: Axis) -> dict[str, Any]:
        """The values that a cell sets, by dotted key."""
        return {**column.set, **row.set}

    def cell_metric(self, row: Axis, column: Axis) -> str:
        """The metric of a cell."""
        return row.metric or column.metric or self.metric

    def cell_better(self, row: Axis, column: Axis) -> str:
        """``max`` or ``min``."""
        return row.better or column.better or self.better

    def cell_digits(self, row: Axis, column: Axis) -> int:
        """Digits after the decimal point."""
        found = row.digits if row.digits is not None else column.digits
        return self.digits if found is None else found

    def printed(self, row: Axis, column: Axis) -> float | None:
        """The paper's number of a cell; None if it prints none."""
        if self.paper is None:
            return None
        table = paper_table(self.paper)
        values = table["rows"].get(row.paper)
        if values is None or column.paper not in table["columns"]:
            return None
        found = values[table["columns"].index(column.paper)]
        return None if found is None else float(found)


def table_spec(config: Mapping[str, Any]) -> TableSpec:
    """Read the config of a table.

    Raises:
        LacunaError: an unknown or missing key, or an invalid value.
    """
    name = str(config.get("name"))
    unknown = [key for key in config if key not in TABLE_KEYS]
    if unknown:
        raise LacunaError(f"table={name}: unknown key {unknown[0]!r}; a table has {', '.join(TABLE_KEYS)}.")
    for key in ("name", "title", "cell", "columns", "rows"):
        if not config.get(key):
            raise LacunaError(f"table={name} has no {key}: add it to its config.")
    better = config.get("better", "max")
    if better not in ("max", "min"):
        raise LacunaError(f"table={name}: better={better} must be max or min.")
    compare = config.get("compare", "columns")
    if compare not in ("columns", "rows"):
        raise LacunaError(f"table={name}: compare={compare} must be columns or rows.")
    figure = config.get("figure")
    if figure is not None:
        _check_figure(name, figure)
    return TableSpec(
        name=name,
        title=str(config["title"]),
        note=str(config.get("note") or ""),
        paper=config.get("paper"),
        metric=str(config.get("metric") or ""),
        better=better,
        digits=int(config.get("digits", 3)),
        cell=tuple(config["cell"]),
        rows=_only(name, "rows", _axes(name, "rows", config["rows"]), config.get("only")),
        columns=_only(name, "columns", _axes(name, "columns", config["columns"]), config.get("only")),
        compare=compare,
        cpus=(config.get("resources") or {}).get("cpus"),
        figure=figure,
    )


def _check_figure(name: str, figure: Any) -> None:
    kind = str(figure.get("kind")) if isinstance(figure, Mapping) else ""
    if kind not in FIGURES:
        raise LacunaError(f"table={name}: figure={figure} needs a kind, one of {', '.join(FIGURES)}.")
    unknown = [key for key in figure if key not in ("kind", *FIGURES[kind])]
    if unknown:
        raise LacunaError(
            f"table={name}: figure.{unknown[0]} is not an option of {kind}; its options are {', '.join(FIGURES[kind])}."
        )


def _only(name: str, where: str, axes: tuple[Axis, ...], config: Any) -> tuple[Axis, ...]:
    """The rows (or columns) that ``only`` lists, in its order; all if it lists none."""
    only: Mapping[str, Any] = config or {}
    wrong = [key for key in only if key not in ("rows", "columns")]
    if wrong:
        raise LacunaError(f"table={name}: only.{wrong[0]} is unknown; only has rows and columns.")
    keys = [str(key) for key in only.get(where) or [axis.key for axis in axes]]
    known = {axis.key: axis for axis in axes}
    unknown = [key for key in keys if key not in known]
    if unknown or len(set(keys)) < len(keys):
        raise LacunaError(f"table={name}: only.{where}={keys} must be different keys of {', '.join(known)}.")
    return tuple(known[key] for key in keys)


def _axes(name: str, where: str, config: Mapping[str, Any]) -> tuple[Axis, ...]:
    axes = []
    for key, value in config.items():
        entry: Mapping[str, Any] = value or {}
        unknown = [word for word in entry if word not in AXIS_KEYS]
        if unknown:
            raise LacunaError(
                f"table={name}: {where}.{key} has an unknown key {unknown[0]!r}; known: {', '.join(AXIS_KEYS)}."
            )
        rest = {word: entry[word] for word in ("metric", "better", "digits") if word in entry}
        axes.append(
            Axis(
                key=str(key),
                label=str(entry.get("label", key)),
                value=str(entry.get("as", key)),
                paper=str(entry.get("paper", key)),
                choose=tuple(entry.get("choose", ())),
                set=dict(entry.get("set", {})),
                reference=bool(entry.get("reference", False)),
                note=str(entry.get("note", "")),
                **rest,
            )
        )
    return tuple(axes)
