"""What the encoded rows of a run hold, in a few numbers that tell whether later rows are the same ones."""

import hashlib
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from problems.data import Data

_ROWS = 10_000  # of one step: the memory that it takes does not grow with the data


def fingerprint(data: Data, classes: Sequence[str], evaluation_rows: int | None) -> dict[str, Any]:
    """Class names and, of the training rows and those of each evaluation split, number and digest; as JSON holds it.

    `evaluation_rows`: the configured limit, without which two fingerprints of an evaluation split say nothing.
    """
    return {
        "classes": list(classes),
        "training": _of(data.train),
        "evaluation_rows": evaluation_rows,
        "evaluation": {name: _of(rows) for name, rows in data.evaluation.items()},
    }


def _of(rows: Dataset) -> dict[str, Any]:
    return {"rows": len(rows), "sha256": digest(rows)}


def digest(rows: Dataset) -> str:
    """SHA-256 of all columns, by their names, and of all rows, in their order; which file, cache or selection of
    another data set they lie in does not matter. (datasets' own `_fingerprint` is of how the rows were made.)"""
    found, columns = hashlib.sha256(), sorted(rows.column_names)
    found.update(repr(columns).encode())
    for table in rows.with_format("arrow").iter(batch_size=_ROWS):
        # In Arrow's format for streams every buffer begins with the first row and has no unused bytes.
        for batch in table.select(columns).replace_schema_metadata(None).combine_chunks().to_batches():
            found.update(batch.serialize())
    return found.hexdigest()
