"""A few numbers about the encoded rows of a run, which tell whether rows encoded later are the same."""

import hashlib
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from autolora.problems.data import Data

_ROWS = 10_000  # rows read at a time, so that the memory needed does not grow with the data


def fingerprint(data: Data, classes: Sequence[str], evaluation_rows: int | None) -> dict[str, Any]:
    """Class names, and the number and the digest of the training rows, of each evaluation split, of the unused
    training rows (if the run reads them) and of all rows that the task read, as JSON values.

    `evaluation_rows` is the configured limit: two evaluation splits can be compared only under the same limit.
    """
    return {
        "classes": list(classes),
        "training": _of(data.train),
        "evaluation_rows": evaluation_rows,
        "evaluation": {name: _of(rows) for name, rows in data.evaluation.items()},
        **({} if data.unused is None else {"unused": _of(data.unused)}),
        **({} if data.source is None else {"source": data.source}),
    }


def _of(rows: Dataset) -> dict[str, Any]:
    return {"rows": len(rows), "sha256": digest(rows)}


def digest(rows: Dataset) -> str:
    """SHA-256 of all columns, sorted by name, and of all rows, in their order.

    Only the content counts, not the file, cache or larger data set that the rows lie in. The `_fingerprint` of the
    package datasets would not do: it describes how the rows were made, and differs for equal rows.
    """
    found, columns = hashlib.sha256(), sorted(rows.column_names)
    found.update(repr(columns).encode())
    for table in rows.with_format("arrow").iter(batch_size=_ROWS):
        # In Arrow's format for streams every buffer begins with the first row and has no unused bytes.
        for batch in table.select(columns).replace_schema_metadata(None).combine_chunks().to_batches():
            found.update(batch.serialize())
    return found.hexdigest()
