"""The same rows have one digest however they lie in files and caches; any other row, label or order has another."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from autolora.problems.data import Data
from autolora.problems.fingerprint import digest, fingerprint

COLUMNS: dict[str, list[Any]] = {
    "input_ids": [[5, 6, 7], [8], [], [9, 10]],
    "labels": [0, 1, 1, 0],
    "references": [["a room", "ein Zimmer"], ["é"], [], ["x"]],
    "length": [3, 1, 0, 2],
}
ROWS = Dataset.from_dict(COLUMNS)


def tripled(rows: Dataset) -> Dataset:
    return concatenate_datasets([rows, rows, rows])


SAME: dict[str, Callable[[Path], Dataset]] = {
    "columns in another order": lambda place: ROWS.select_columns(["length", "references", "labels", "input_ids"]),
    "rows of several pieces": lambda place: concatenate_datasets([ROWS.select([0]), ROWS.select(range(1, 4))]),
    "a part in the middle of another": lambda place: tripled(ROWS).select(range(4, 8)),
    "rows picked one by one": lambda place: tripled(ROWS).select([4, 9, 2, 7]),
    "written by small steps": lambda place: ROWS.map(lambda row: row, writer_batch_size=1),
    "with another history": lambda place: ROWS.add_column("more", [1, 2, 3, 4]).remove_columns("more"),
}


@pytest.mark.parametrize("case", SAME)
def test_only_the_content_counts(tmp_path: Path, case: str) -> None:
    assert digest(SAME[case](tmp_path)) == digest(ROWS)


def test_rows_on_the_disk_are_those_in_memory(tmp_path: Path) -> None:
    ROWS.save_to_disk(tmp_path / "rows", num_shards=2)
    assert digest(Dataset.load_from_disk(str(tmp_path / "rows"))) == digest(ROWS)


def changed(column: str, row: int, value: Any) -> Dataset:
    values = list(COLUMNS[column])
    values[row] = value
    return Dataset.from_dict(COLUMNS | {column: values})


OTHER: dict[str, Dataset] = {
    "a token": changed("input_ids", 0, [5, 6, 8]),
    "a token moved to the next row": Dataset.from_dict(COLUMNS | {"input_ids": [[5, 6], [7, 8], [], [9, 10]]}),
    "a label": changed("labels", 3, 1),
    "a letter of a reference": changed("references", 1, ["è"]),
    "references cut otherwise": changed("references", 0, ["a roomein", " Zimmer"]),
    "two rows changed over": ROWS.select([0, 1, 3, 2]),
    "a row less": ROWS.select(range(3)),
    "a row more": concatenate_datasets([ROWS, ROWS.select([0])]),
    "a column less": ROWS.remove_columns("length"),
    "a column of another name": ROWS.rename_column("length", "size"),
    "no row": ROWS.select([]),
}


def test_any_other_content_is_another() -> None:
    found = {case: digest(rows) for case, rows in OTHER.items()}
    assert len({digest(ROWS), *found.values()}) == 1 + len(OTHER), found


def test_rows_are_read_in_steps_without_a_seam() -> None:
    """20,001 rows are three steps; what stands in the last row counts, and so does where a step begins."""
    rows = Dataset.from_dict({"input_ids": [[i, i + 1] for i in range(20_001)]})
    assert digest(rows) == digest(concatenate_datasets([rows.select(range(7)), rows.select(range(7, 20_001))]))
    last = concatenate_datasets([rows.select(range(20_000)), rows.select([0])])
    assert digest(last) != digest(rows)


def test_a_fingerprint_is_of_classes_and_all_splits_and_survives_json() -> None:
    data = Data(ROWS, {"validation": ROWS.select([0]), "test": ROWS.select([1, 2])}, lambda rows: {})
    found = fingerprint(data, ["bad", "good"], None)
    assert json.loads(json.dumps(found)) == found
    assert found["classes"] == ["bad", "good"]
    assert (found["training"]["rows"], found["training"]["sha256"]) == (4, digest(ROWS))
    assert {split: rows["rows"] for split, rows in found["evaluation"].items()} == {"validation": 1, "test": 2}
    other = dataclasses.replace(data, evaluation={**data.evaluation, "test": ROWS.select([1, 3])})
    assert fingerprint(other, ["bad", "good"], None) != found


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_less_than_a_second() -> None:
    lengths = np.random.default_rng(0).integers(16, 128, 100_000)
    rows = Dataset.from_dict({"input_ids": [list(range(n)) for n in lengths], "labels": [0] * len(lengths)})
    began = time.process_time()
    digest(rows)
    assert time.process_time() - began < 1
