"""Write tables to parquet and CSV files atomically, and check the parquet ones when they are read."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autolora.configs.errors import UserError
from autolora.engine.disk.files import replacing, write_text

if TYPE_CHECKING:  # a command that only shows a run needs no pandas, which takes a second to import
    import pandas as pd


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Writes a table to `path`, atomically (see `replacing`)."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Writes a table to `path` as CSV, atomically, with a row of names, and with quotes around all texts.

    Without them, Python 3.11 leaves a text with a bare carriage return as it is, and readers take that for the end of
    the row."""
    write_text(path, table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))


def read_parquet(
    path: Path, way_out: str, *, texts: Collection[str] = (), numbers: Collection[str] = ()
) -> "pd.DataFrame":
    """The same as `read_columns`, but returns a pandas table."""
    table: pd.DataFrame = read_columns(path, way_out, texts=texts, numbers=numbers).to_pandas()
    return table


def read_columns(path: Path, way_out: str, *, texts: Collection[str] = (), numbers: Collection[str] = ()) -> pa.Table:
    """The table in a parquet file, which must have the columns `texts` and `numbers` and may have others.

    Raises UserError when the file is damaged, or a column is missing or of the wrong type; the message names the file
    and ends with `way_out`.
    """
    try:
        with pq.ParquetFile(path) as file:  # read_table would import pandas
            table = file.read()
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not readable as parquet ({reason:.200}); {way_out}") from error
    missing = [name for name in (*texts, *numbers) if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; {way_out}")
    wrong = [name for name in numbers if not _is_number(table.schema.field(name).type)]
    wrong += [name for name in texts if not _is_text(table.schema.field(name).type) or table[name].null_count]
    if wrong:
        raise UserError(f"{path}: column {wrong[0]!r} does not have the type that this program writes; {way_out}")
    return table


def numbers_of(column: pa.ChunkedArray) -> np.ndarray:
    """The numbers of a column, which must have no empty cells; pyarrow's own `to_numpy` would import pandas."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
