"""Selected rows of a table (``rows=``), or other missing rates than those of its columns (``rates=``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lacuna.errors import LacunaError
from lacuna.tables.spec import Axis, TableSpec

RATE = "mask.rate"
"""The key that a column of a missing rate sets."""


def selected(specs: Sequence[TableSpec], rates: Any = None, rows: Any = None) -> list[TableSpec]:
    """Tables with the selected rows and rates; :attr:`TableSpec.selection` says what was changed.

    Args:
        specs: any tables. Tables whose columns are not rates keep their columns; tables with none of the rows are left
            out.
        rates: missing rates, each in (0, 1), one or a list; None: those of the tables.
        rows: keys of rows, one or a list; None: all. The order stays that of the table.

    Raises:
        LacunaError: invalid rates or rows, rows that no table has, or rates where no table has columns of rates.
    """
    found = list(specs)
    if rates is not None:
        fractions = _fractions(rates)
        if not any(has_rates(spec) for spec in found):
            names = ", ".join(spec.name for spec in found)
            raise LacunaError(
                f"rates={rates}: the columns of {names} are not missing rates: "
                "leave out rates or choose a table such as table=prflow/table1."
            )
        found = [_with_rates(spec, fractions) for spec in found]
    return found if rows is None else _with_rows(found, _keys(rows, found))


def has_rates(spec: TableSpec) -> bool:
    """Whether the columns differ in the missing rate only."""
    rest = [dataclasses.replace(column, key="", label="", paper="", set=_rest(column)) for column in spec.columns]
    return all(RATE in column.set for column in spec.columns) and all(column == rest[0] for column in rest)


def _rest(column: Axis) -> dict[str, Any]:
    return {key: value for key, value in column.set.items() if key != RATE}


def _with_rates(spec: TableSpec, rates: Sequence[float]) -> TableSpec:
    if not has_rates(spec):
        return spec
    columns = tuple(_column(spec, rate) for rate in rates)
    if columns == spec.columns:
        return spec
    change = f"rates: {', '.join(column.label for column in columns)}"
    return dataclasses.replace(spec, columns=columns, selection=(*spec.selection, change))


def _column(spec: TableSpec, rate: float) -> Axis:
    """The table's column of a rate, or a new one like it."""
    for column in spec.columns:
        if column.set[RATE] == rate:
            return column
    first, percent = spec.columns[0], f"{100 * rate:.12g}"
    return dataclasses.replace(
        first, key=f"p{percent}", label=f"{percent} %", paper=f"{rate:g}", set={**first.set, RATE: rate}
    )


def _with_rows(specs: Sequence[TableSpec], keys: Sequence[str]) -> list[TableSpec]:
    found = []
    for spec in specs:
        rows = tuple(row for row in spec.rows if row.key in keys)
        if rows == spec.rows:
            found.append(spec)
        elif rows:
            change = f"rows: {', '.join(row.label for row in rows)}"
            found.append(dataclasses.replace(spec, rows=rows, selection=(*spec.selection, change)))
    return found


def _fractions(value: Any) -> list[float]:
    rates = _as_list(value)
    numbers = all(isinstance(rate, int | float) and not isinstance(rate, bool) for rate in rates)
    if not rates or not numbers or not all(0 < rate < 1 for rate in rates) or len(set(rates)) < len(rates):
        raise LacunaError(f"rates={value} must be different missing rates between 0 and 1, as in rates=[0.5,0.95].")
    return [float(rate) for rate in rates]


def _keys(value: Any, specs: Sequence[TableSpec]) -> list[str]:
    keys = [str(key) for key in _as_list(value)]
    known = list(dict.fromkeys(row.key for spec in specs for row in spec.rows))
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise LacunaError(
            f"rows={value}: none of the tables has a row {unknown[0]!r}; the rows are {', '.join(known)}."
        )
    if not keys or len(set(keys)) < len(keys):
        raise LacunaError(f"rows={value} must be different keys of rows, as in rows=[{','.join(known[:2])}].")
    return keys


def _as_list(value: Any) -> list[Any]:
    """A list as it is, one value as a list of it, a mapping as an empty list."""
    if isinstance(value, Mapping):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
