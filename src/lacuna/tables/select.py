"""A part of a table: only some of its rows, or other missing rates than its columns have (``rows=``, ``rates=``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lacuna.errors import LacunaError
from lacuna.tables.spec import Axis, TableSpec

RATE = "mask.rate"
"""What a column sets that stands for a rate."""


def narrowed(specs: Sequence[TableSpec], rates: Any = None, rows: Any = None) -> list[TableSpec]:
    """The tables with other rates and fewer rows; what was changed stands in :attr:`TableSpec.part`.

    Args:
        specs: any tables; those without columns of rates keep theirs, those with none of the rows are left out.
        rates: fractions missing, each in (0, 1), one or a list; None: those of the tables.
        rows: keys of rows, one or a list; None: all. Their order stays that of the table.

    Raises:
        LacunaError: rates or rows that cannot be read, that no table has, or that fit no table.
    """
    found = list(specs)
    if rates is not None:
        fractions = _fractions(rates)
        if not any(has_rates(spec) for spec in found):
            names = ", ".join(spec.name for spec in found)
            raise LacunaError(
                f"rates={rates}: the columns of {names} are no missing rates; "
                "leave rates out or choose a table whose columns are, such as table=prflow/table1."
            )
        found = [_with_rates(spec, fractions) for spec in found]
    return found if rows is None else _with_rows(found, _keys(rows, found))


def has_rates(spec: TableSpec) -> bool:
    """Whether the columns differ in the missing rate, and in nothing else that decides a number."""
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
    said = f"rates: {', '.join(column.label for column in columns)}"
    return dataclasses.replace(spec, columns=columns, part=(*spec.part, said))


def _column(spec: TableSpec, rate: float) -> Axis:
    """The table's own column of a rate, or one that is made like them."""
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
            said = f"rows: {', '.join(row.label for row in rows)}"
            found.append(dataclasses.replace(spec, rows=rows, part=(*spec.part, said)))
    return found


def _fractions(given: Any) -> list[float]:
    rates = _listed(given)
    numbers = all(isinstance(rate, int | float) and not isinstance(rate, bool) for rate in rates)
    if not rates or not numbers or not all(0 < rate < 1 for rate in rates) or len(set(rates)) < len(rates):
        raise LacunaError(
            f"rates={given} must be different fractions missing, each above 0 and below 1, as in rates=[0.5,0.95]."
        )
    return [float(rate) for rate in rates]


def _keys(given: Any, specs: Sequence[TableSpec]) -> list[str]:
    keys = [str(key) for key in _listed(given)]
    known = list(dict.fromkeys(row.key for spec in specs for row in spec.rows))
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise LacunaError(f"rows={given}: no chosen table has a row {unknown[0]!r}; the rows are {', '.join(known)}.")
    if not keys or len(set(keys)) < len(keys):
        raise LacunaError(f"rows={given} must be different keys of rows, as in rows=[{','.join(known[:2])}].")
    return keys


def _listed(given: Any) -> list[Any]:
    """One value, a list of values, or nothing for what is neither."""
    if isinstance(given, Mapping):
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
