"""A table of texts and labels: its columns, classes and numbers; GLUE and the program's own sentences alike."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoTokenizer

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS
from autolora.configs.parser import parse
from autolora.configs.tasks import Sample, Table
from autolora.problems.tasks import make_task
from autolora.problems.tasks.texts import Texts
from tests.helpers.tiny import make_tokenizer

ROWS = [("a film", "b"), ("our room", "a"), ("dull", "b"), ("noisy", "a")]


def table(path: Path, rows: list[tuple[Any, Any]], columns: tuple[str, str] = ("text", "label")) -> str:
    """A file of these rows in the format of its ending."""
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    return str(path)


def task_of(path: str, **settings: Any) -> Texts:
    """The task on this table, which is evaluated on the same rows unless told otherwise."""
    settings.setdefault("validation_path", path)
    return Texts(Table(type="text", path=path, **settings), seed=0)


def encoded(task: Texts, rows: Dataset) -> list[Any]:
    """The labels that the model learns."""
    found: list[Any] = task.encode(rows, make_tokenizer())["labels"][:]
    return found


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["b", " a", "b ", "a"], ["a", "b"], [1, 0, 1, 0]),
        ([10, 9, 10, 9], ["9", "10"], [1, 0, 1, 0]),
        ([1.0, 0.0, 1.0, -1.0], ["-1", "0", "1"], [2, 1, 2, 0]),
    ],
)
def test_classes_are_found_in_the_training_rows_numbers_by_value(
    tmp_path: Path, suffix: str, labels: list[Any], classes: list[str], numbers: list[int]
) -> None:
    texts = [text for text, _ in ROWS]
    shown = [int(label) if isinstance(label, float) and suffix == ".csv" else label for label in labels]
    task = task_of(table(tmp_path / f"d{suffix}", list(zip(texts, shown, strict=True))))
    found = task.rows()
    assert task.classes == classes
    assert found.train["text"][:] == texts
    assert encoded(task, found.train) == encoded(task, found.evaluation["validation"]) == numbers
    assert task.head()["id2label"] == dict(enumerate(classes))


def test_the_names_in_a_columns_type_are_its_classes_in_their_order(tmp_path: Path) -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["good", "bad"])})
    Dataset.from_dict({"sentence": ["x", "y"], "label": [1, 0]}, features).to_parquet(str(tmp_path / "d.parquet"))
    dev = table(tmp_path / "dev.csv", [("x", "bad")], ("sentence", "label"))
    task = task_of(str(tmp_path / "d.parquet"), validation_path=dev)
    found = task.rows()
    assert (task.classes, task.columns) == (["good", "bad"], ["sentence"])
    assert encoded(task, found.train) == [1, 0]
    assert encoded(task, found.evaluation["validation"]) == [1]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_numbers_are_learned_with_mean_0_and_deviation_1(tmp_path: Path, suffix: str) -> None:
    rows = [(text, number) for (text, _), number in zip(ROWS, (1, 2, 4, 5), strict=True)]
    task = task_of(table(tmp_path / f"d{suffix}", rows), kind="regression")
    found = encoded(task, task.rows().train)
    assert found == pytest.approx([-2 / 2.5**0.5, -1 / 2.5**0.5, 1 / 2.5**0.5, 2 / 2.5**0.5])
    assert task.label_scale is not None
    assert (task.label_scale.mean, task.label_scale.deviation) == (3.0, pytest.approx(2.5**0.5))
    assert task.head() == {"num_labels": 1, "problem_type": "regression"}


def test_copies_of_a_text_are_held_out_together_and_the_draw_is_the_seeds(tmp_path: Path) -> None:
    path = table(tmp_path / "d.csv", [(f"text {i // 2}", "ab"[i % 2]) for i in range(40)])

    def parts(seed: int) -> tuple[list[str], list[str], Any]:
        task = Texts(Table(type="text", path=path, holdout_share=0.2), seed)
        found = task.rows()
        assert task.held_out
        return found.train["text"][:], found.evaluation["validation"]["text"][:], found.source

    train, held_out, source = parts(0)
    assert (len(train), len(held_out)) == (32, 8)
    assert not set(train) & set(held_out)
    assert parts(0) == (train, held_out, source)
    assert parts(1)[1] != held_out
    assert parts(1)[2] == source, "what was read does not depend on the draw"


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        ({}, [("a", "x"), ("b", "")], "1 rows have nothing in column 'label', the first is row 2"),
        ({}, [("a", "x"), (" ", "y")], "1 rows have nothing in column 'text', the first is row 2"),
        ({}, [("a", "x"), ("b", "x")], "1 different labels; allowed: 2 to 1000"),
        ({}, [(str(i), i) for i in range(1001)], "1001 different labels; .* --task.kind regression"),
        ({"kind": "regression"}, [("a", "1"), ("b", "2,5")], "Failed to parse string: '2,5'"),
        ({"kind": "regression"}, [("a", "1"), ("b", "nan")], "not finite"),
        ({"kind": "regression"}, [("a", "1"), ("b", "1.0")], "the one number 1"),
        ({"label_column": "stars"}, [("a", "x")], "no column 'stars'; it has: text, label"),
    ],
)
def test_what_cannot_be_learned_is_one_line(
    tmp_path: Path, settings: dict[str, Any], rows: list[tuple[Any, Any]], said: str
) -> None:
    path = table(tmp_path / "d.csv", rows)
    with pytest.raises(UserError, match=rf"^--task.path: {path}.*{said}"):
        task_of(path, **settings).rows()


def test_a_class_that_training_lacks_is_told_with_its_file(tmp_path: Path) -> None:
    path, dev = table(tmp_path / "d.csv", ROWS), table(tmp_path / "dev.csv", [("x", "c")])
    with pytest.raises(UserError, match=rf"^--task.validation_path: {dev}: label 'c' .* known: a, b"):
        task_of(path, validation_path=dev).rows()


def test_rows_that_are_cut_are_counted(tmp_path: Path, model_folder: Any, log_lines: list[str]) -> None:
    task = task_of(table(tmp_path / "d.csv", [("the film was dull", "a"), ("dull", "b")]), max_length=4)
    task.encode(task.rows().train, AutoTokenizer.from_pretrained(model_folder("bert")))
    assert any("1 of 2 rows are longer than task.max_length 4" in line for line in log_lines)


def test_several_splits_are_measured_each_by_itself_and_the_mean_first() -> None:
    task = Texts(Sample(), 0)
    found = task.combine({
        "validation_matched": {"accuracy": 0.5, "loss": 1.0}, "validation_mismatched": {"accuracy": 1.0, "loss": 2.0}
    })  # fmt: skip
    assert found == {"accuracy": 0.75, "accuracy_matched": 0.5, "accuracy_mismatched": 1.0, "loss": 1.5}
    assert next(iter(found)) == "accuracy"


def test_the_sample_is_balanced_and_no_sentence_is_in_two_splits() -> None:
    task = Texts(Sample(), 0)
    found = task.rows()
    (test,) = found.evaluation.values()
    assert (len(found.train), len(test), task.classes) == (6000, 1000, ["negative", "positive"])
    assert not set(found.train["sentence"]) & set(test["sentence"])
    assert sum(test["label"]) == 500


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("glue_*.yaml")))
def test_glue_is_a_table_with_the_columns_of_the_hub(name: str) -> None:
    """The nine files, and task.type glue, which studies take, ask for the same rows."""
    own = parse(["--config", f"{name}.yaml"]).config.task
    known = parse(["--task.type", "glue", "--task.glue", name.removeprefix("glue_")]).config.task
    first, other = Texts(own, 0), Texts(known, 0)  # type: ignore[arg-type]
    for key in ("path", "configuration", "text_columns", "kind", "evaluation_split", "metrics"):
        assert getattr(first.config, key) == getattr(other.config, key), key
    assert first.name == other.name == name.removeprefix("glue_")


def test_a_path_of_data_may_begin_at_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    table(tmp_path / "d.csv", ROWS)
    task = make_task(parse(["--task.type", "text", "--task.path", "~/d.csv"]).config)
    assert len(task.rows().train) == 3
