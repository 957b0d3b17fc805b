"""Write tables to parquet and CSV files atomically, and name a parquet file that cannot be read."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.configs.errors import UserError
from autolora.engine.disk.files import replacing, write_text

if TYPE_CHECKING:  # a command that only shows a run needs no pandas, which takes a second to import
    import pandas as pd


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Writes a table to `path`, atomically (see `replacing`)."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Writes a table to `path` as CSV, atomically, with a row of names, and with quotes around all
    texts.

    Without them, Python 3.11 leaves a text with a bare carriage return as it is, and readers take
    that for the end of the row."""
    write_text(path, table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))


def read_parquet(path: Path, way_out: str, columns: Collection[str]) -> "pd.DataFrame":
    """The table in a parquet file, which must have these columns and may have others.

    Raises UserError when the file is damaged, or a column is missing; the message names the file
    and ends with `way_out`.
    """
    import pandas as pd
    from pyarrow import ArrowException

    try:
        table = pd.read_parquet(path)
        table[[*columns]]
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise UserError(f"{path}: not readable ({str(error).strip():.200}); {way_out}") from error
    return table
