"""Which rows were written for one input, and so depend on each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from autolora.problems.tasks.given import GivenRows


def tokens_of(rows: Dataset) -> list[bytes]:
    """The token ids of each encoded row, as bytes that can be compared."""
    if not len(rows):
        return []
    cells = rows.with_format("arrow")[:]["input_ids"].combine_chunks()
    ids = np.asarray(pc.list_flatten(cells).to_numpy())
    ends = np.cumsum(pc.list_value_length(cells).to_numpy())
    return [part.tobytes() for part in np.split(ids, ends[:-1])]


def texts_known(rows: Any) -> list[bytes] | None:
    """For each row something that is equal for rows of one text; None if the texts are not known."""
    if isinstance(rows, GivenRows):
        return rows.texts
    return tokens_of(rows) if "input_ids" in rows.column_names else None


def inputs_of(rows: Dataset, numbers: Sequence[int] | np.ndarray) -> list[Any]:
    """For each of the rows with these numbers something that is equal for rows of one input: its column `source` (the
    record that references belong to), else its text (that several people have labelled), else its number."""
    if "source" in getattr(rows, "column_names", ()):
        names = rows["source"][:]
        return [names[number] for number in numbers]
    texts = texts_known(rows.select(numbers))
    return list(numbers) if texts is None else list(texts)
