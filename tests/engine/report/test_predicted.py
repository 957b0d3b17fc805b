"""What a classifier predicts, class by class, and its surest errors."""

from pathlib import Path

import pandas as pd
import pytest

from autolora.engine.disk.tables import write_csv
from autolora.engine.report.predicted import predicted_of
from autolora.engine.run.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def write(
    folder: RunFolder, label: list[str], predicted: list[str], probability: list[float], **texts: object
) -> None:
    table = pd.DataFrame({**texts, "label": label, "predicted": predicted, "probability": probability})
    write_csv(folder.predicted_rows, table)


def test_each_class_has_its_rows_its_scores_and_what_it_is_taken_for(folder: RunFolder) -> None:
    # NA is the name of a class, and "never" occurs only as a prediction.
    write(folder, ["NA", "NA", "NA", "b"], ["NA", "b", "NA", "never"], [0.9] * 4)
    found = predicted_of(folder)
    assert found is not None
    columns, rows = found.classes
    assert columns == ["class", "rows", "precision", "recall", "f1", "taken for NA", "taken for b", "taken for never"]
    assert rows == [
        ["NA", "3", "1.000", "0.667", "0.800", "2", "1", "0"],
        ["b", "1", "0.000", "0.000", "0.000", "0", "0", "1"],
        ["never", "0", "0.000", "0.000", "0.000", "0", "0", "0"],
    ]


def test_the_surest_errors_come_first_with_their_texts(folder: RunFolder) -> None:
    texts = ["right", "sure\rand long " + "x " * 400, *(f"error {i}" for i in range(6))]
    write(folder, ["a"] * 8, ["a"] + ["b"] * 7, [1.0, 0.99, *(0.9 - i / 100 for i in range(6))], review=texts)
    found = predicted_of(folder)
    assert found is not None
    columns, rows = found.errors
    assert columns == ["review", "label", "predicted", "probability"]
    assert [row[1:] for row in rows[:2]] == [["a", "b", "0.990"], ["a", "b", "0.900"]]
    assert rows[0][0].startswith("sure and long x x")
    assert rows[0][0].endswith(" ...")
    assert len(rows[0][0]) <= 300
    assert [row[0] for row in rows[1:]] == [f"error {i}" for i in range(4)]


def test_numbers_and_a_run_without_the_file_have_no_classes(folder: RunFolder) -> None:
    assert predicted_of(folder) is None
    write_csv(folder.predicted_rows, pd.DataFrame({"text": ["a"], "label": [1.5], "predicted": [1.25]}))
    assert predicted_of(folder) is None
