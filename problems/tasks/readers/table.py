"""Read a table from a CSV, TSV, JSON Lines or parquet file."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from autolora.configs.endings import TABLES, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.problems.delimited import read_delimited
from autolora.problems.encoding import utf8
from autolora.problems.tasks.readers.numbering import LINE, ROW
from autolora.problems.tasks.readers.objects import looked_in, read_objects


def read_table(option: str, path: Path) -> pd.DataFrame:
    """All rows of a file; cells of CSV and TSV stay text, as "NA" may be a word.

    The index numbers the rows as messages do, and its name says what it counts (see `Numbered`): lines or, of parquet,
    rows.
    Raises UserError for a missing or empty file, another format, or content that cannot be parsed.
    """
    refuse_other_ending(option, path, TABLES)
    if not path.is_file():
        raise UserError(f"{option}: no file {str(path)!r}{looked_in(path)}")
    try:
        if ending(path) == ".parquet":
            table = _read_parquet(option, path)
        elif ending(path) == ".jsonl":
            # Python's own values: pandas would read 0.57 as 0.5700000000000001, and refuse a number of 22 digits.
            found = read_objects(option, path)
            table = pd.DataFrame(found.rows, dtype=object, index=pd.Index(found.numbers, name=LINE))
        else:
            text = utf8(f"{option}: {path}", path)
            cells = read_delimited(f"{option}: {path}", text, tabs=ending(path) == ".tsv")
            lines = pd.Index(cells.lines, name=LINE)
            table = pd.DataFrame(cells.rows, columns=cells.header, dtype=object, index=lines)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UserError(f"{option}: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if table.empty:
        raise UserError(f"{option}: {path} has no rows")
    table.columns = table.columns.map(str)  # names as the options give them, also where they are numbers
    return table


def _read_parquet(option: str, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except pa.ArrowException:  # `read_table` reports these; without this, the next `except` would catch some of them
        raise
    except (KeyError, TypeError) as error:  # pandas raises these if its own metadata in the file have another form
        raise UserError(
            f"{option}: {path} cannot be read, as the metadata of pandas in it are damaged; allowed: a file with the "
            f"metadata that pandas writes, or without them"
        ) from error
    # With a name, the index is a column that pandas saved as the index.
    table = table.reset_index(drop=table.index.name is None)
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name=ROW))
