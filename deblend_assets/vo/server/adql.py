"""ADQL on SQLite: the survey's tables in memory, read only, with TAP_SCHEMA beside them.

SQLite's SELECT covers what ADQL 2.0 shares with SQL-92; `TOP n` becomes `LIMIT n`. ADQL's mathematical functions are
added, since some builds of SQLite have none and its LOG is of base 10. The geometry functions (CONTAINS, CIRCLE, …)
are missing, and the error of a query that uses one names it.
"""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.vo.server.votable import Field

MAX_ROWS = 1_000_000
TIME_LIMIT_S = 60.0
_TOP = re.compile(r"\s*select\s+(?P<kind>(?:distinct|all)\s+)?top\s+(?P<rows>\d+)\s", re.IGNORECASE)
_FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    **{f.__name__.upper(): (1, f) for f in (math.acos, math.asin, math.atan, math.cos, math.sin, math.tan)},
    **{f.__name__.upper(): (1, f) for f in (math.degrees, math.radians, math.exp, math.floor, math.sqrt, math.log10)},
    "ATAN2": (2, math.atan2),
    "CEILING": (1, math.ceil),
    "COT": (1, lambda x: 1 / math.tan(x)),
    "LOG": (1, math.log),
    "MOD": (2, math.fmod),
    "PI": (0, lambda: math.pi),
    "POWER": (2, math.pow),
}
_LARGEST_VALUE = 1_000_000  # bytes; keeps randomblob(1e9) and the like from filling the memory
_SCHEMAS = {
    "des_sva1": "DES Science Verification: gold catalogue and im3shape's shapes; simulated",
    "des_dr1": "DES Data Release 1: tiles; simulated",
    "simulation": "what is known of a simulated sky",
    "TAP_SCHEMA": "the tables of this service",
}
_TAP_SCHEMA = {
    "schemas": ("schema_name", "utype", "description"),
    "tables": ("schema_name", "table_name", "table_type", "utype", "description"),
    "columns": (
        *("table_name", "column_name", "datatype", "arraysize", "unit", "ucd", "utype", "description"),
        *("principal", "indexed", "std"),
    ),
    "keys": ("key_id", "from_table", "target_table", "utype", "description"),
    "key_columns": ("key_id", "from_column", "target_column"),
}
_TAP_INTEGERS = ("principal", "indexed", "std")


class QueryError(ValueError):
    """A query that this service refuses or cannot run; the message is for the client."""


class Answer(NamedTuple):
    """Columns and rows of a query; `overflow` where more rows exist than were requested."""

    fields: list[Field]
    rows: list[tuple[Any, ...]]
    overflow: bool


class SkyDatabase:
    """The tables of a simulated survey; takes queries from several threads and runs them one at a time.

    Args:
        sky: a finished survey.
    """

    def __init__(self, sky: SimulatedSky) -> None:
        self.tables: dict[str, list[Field]] = {}
        self._lock = threading.Lock()
        self._deadline = 0.0
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        for name, (arguments, function) in _FUNCTIONS.items():
            self._connection.create_function(name, arguments, _of_numbers(function), deterministic=True)
        for schema in _SCHEMAS:
            self._connection.execute(f"ATTACH ':memory:' AS {schema}")
        for name in sky.record()["tables"]:
            rows, columns = sky.table(name), sky.columns(name)
            fields = [_field(column, rows[column], *columns[column]) for column in rows.columns]
            self._create(name, fields, zip(*(rows[column].tolist() for column in rows.columns), strict=True))
        self._describe()
        self._declared = {field.name: field for fields in reversed(self.tables.values()) for field in fields}
        self._names = {name.rpartition(".")[2].lower() for name in self.tables}
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        self._connection.set_authorizer(self._authorise)
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline, 10_000)

    def query(self, adql: str, max_rows: int = MAX_ROWS, time_limit_s: float = TIME_LIMIT_S) -> Answer:
        """Run one SELECT.

        Args:
            adql: the query.
            max_rows: MAXREC; rows beyond it are left out and `overflow` is set.
            time_limit_s: limit of its running time [s].

        Raises:
            QueryError: not a single SELECT over the service's tables, no such table or column, too slow.
        """
        sql, rows_wanted = adql.strip().rstrip(";"), min(max(max_rows, 0), MAX_ROWS)
        if top := _TOP.match(sql):
            # A line of its own: the query may end in a comment.
            sql = f"SELECT {top['kind'] or ''}{sql[top.end() :]}\nLIMIT {top['rows']}"
        with self._lock:
            self._deadline = time.monotonic() + time_limit_s
            try:
                cursor = self._connection.execute(sql)
                if cursor.description is None:
                    raise QueryError("only SELECT is served")
                rows = cursor.fetchmany(rows_wanted + 1)
                names = [column[0] for column in cursor.description]
                cursor.close()
            except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
                if isinstance(error, QueryError):
                    raise
                late = str(error) == "interrupted"
                raise QueryError(f"the query took longer than {time_limit_s:g} s" if late else str(error)) from error
        overflow = len(rows) > rows_wanted
        rows = rows[:rows_wanted]
        return Answer([self._described(name, [row[k] for row in rows]) for k, name in enumerate(names)], rows, overflow)

    def _create(self, name: str, fields: Sequence[Field], rows: Iterable[Sequence[Any]]) -> None:
        """One table; the names come from the survey's own record, not from a client."""
        kinds = {"long": "INTEGER", "int": "INTEGER", "double": "REAL", "char": "TEXT"}
        columns = ", ".join(f'"{field.name}" {kinds[field.datatype]}' for field in fields)
        schema, _, table = name.partition(".")
        self._connection.execute(f'CREATE TABLE {schema}."{table}" ({columns})')
        marks = ", ".join("?" * len(fields))
        self._connection.executemany(f'INSERT INTO {schema}."{table}" VALUES ({marks})', rows)
        self.tables[name] = list(fields)

    def _describe(self) -> None:
        """Fill TAP_SCHEMA with all tables, its own included (TAP 1.1, section 4)."""
        for table, columns in _TAP_SCHEMA.items():
            fields = [
                Field(column, "int") if column in _TAP_INTEGERS else Field(column, "char", "*") for column in columns
            ]
            self._create(f"TAP_SCHEMA.{table}", fields, [])
        rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TAP_SCHEMA}
        rows["schemas"] = [(name, None, text) for name, text in _SCHEMAS.items()]
        for name, fields in self.tables.items():
            rows["tables"].append((name.partition(".")[0], name, "table", None, None))
            for f in fields:
                described = (name, f.name, f.datatype, f.arraysize or None, f.unit or None, f.ucd or None)
                rows["columns"].append((*described, None, f.description or None, 1, 0, 0))
        rows["keys"] = [("shapes", "des_sva1.gold_im3shape", "des_sva1.gold_catalog", None, "the object measured")]
        rows["key_columns"] = [("shapes", "coadd_objects_id", "coadd_objects_id")]
        for table, content in rows.items():
            marks = ", ".join("?" * len(_TAP_SCHEMA[table]))
            self._connection.executemany(f"INSERT INTO TAP_SCHEMA.{table} VALUES ({marks})", content)

    def _authorise(self, action: int, first: str | None, second: str | None, _database: Any, _source: Any) -> int:
        """Called by SQLite for each part of a statement that it compiles; allows reading the known tables only."""
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and first is not None and first.lower() in self._names:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second != "load_extension":
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def _described(self, name: str, values: list[Any]) -> Field:
        """Description of a result's column: the table's own where name and type agree, else made from the values."""
        kinds = {type(value) for value in values if value is not None}
        found = "long" if kinds <= {int} else "double" if kinds <= {int, float} else "char"
        declared = self._declared.get(name)
        if declared and (not kinds or declared.datatype == found or (declared.datatype == "int" and found == "long")):
            return declared
        return Field(name, found, "*" if found == "char" else "")


def _of_numbers(function: Callable[..., float]) -> Callable[..., float | None]:
    """The function as SQL defines it: NULL for NULL and outside its domain."""

    def applied(*values: Any) -> float | None:
        try:
            return None if None in values else function(*values)
        except (ArithmeticError, TypeError, ValueError):
            return None

    return applied


def _field(name: str, values: pd.Series, unit: str, meaning: str) -> Field:
    kind = {"i": "long", "f": "double"}.get(values.dtype.kind, "char")
    ucd = {
        "coadd_objects_id": "meta.id;meta.main",
        "ra_j2000": "pos.eq.ra;meta.main",
        "dec_j2000": "pos.eq.dec;meta.main",
    }.get(name, "")
    return Field(name, kind, "*" if kind == "char" else "", unit, ucd, meaning)
