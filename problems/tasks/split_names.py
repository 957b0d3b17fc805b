"""The names of splits, and rows of them in words."""

from datasets import Dataset

TRAIN, UNUSED = "train", "unused"
"""Names of the splits of training rows, and of training rows that task.train_rows leaves out."""


def rows_in_words(rows: Dataset) -> str:
    """How many rows of which split, for a warning."""
    if rows.split is None:
        return f"{len(rows)} rows"
    named = {TRAIN: "training rows", UNUSED: "unused training rows"}
    return f"{len(rows)} {named.get(str(rows.split), f'rows of {rows.split}')}"
