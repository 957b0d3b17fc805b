"""Tags that are numbers, in a user's own files."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.tag_names import names_of_hub
from autolora.problems.tasks.readers.tagged_files import read_sentences

COLUMNS = ("tokens", "tags")
NAMES = ["O", "B-DNA", "I-DNA"]
LABELS = {"B-DNA": 1, "I-DNA": 2, "O": 0}


def save(path: Path, tags: list[object], features: Features | None = None) -> Path:
    rows = {"tokens": [["a", "b"]], "tags": [tags]}
    if path.suffix == ".parquet":
        Dataset.from_dict(rows, features=features).to_parquet(path)
    else:
        path.write_text(json.dumps({name: values[0] for name, values in rows.items()}) + "\n")
    return path


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_label_json_beside_the_file_names_the_numbers(tmp_path: Path, ending: str) -> None:
    (tmp_path / "label.json").write_text(json.dumps(LABELS))
    (sentence,) = read_sentences("--x", save(tmp_path / f"train.{ending}", [1, 2]), COLUMNS)
    assert sentence.tags == ["B-DNA", "I-DNA"]


def test_the_type_of_a_parquet_column_names_its_numbers(tmp_path: Path) -> None:
    features = Features({"tokens": Sequence(Value("string")), "tags": Sequence(ClassLabel(names=NAMES))})
    (tmp_path / "label.json").write_text(json.dumps({"O": 1, "B-X": 0, "I-X": 2}))
    (sentence,) = read_sentences("--x", save(tmp_path / "train.parquet", [0, 1], features), COLUMNS)
    assert sentence.tags == ["O", "B-DNA"]


@pytest.mark.parametrize("entry", [b"x", b"\xff", b"null", b'{"info": null}', b'{"info": {"features": [1]}}'])
def test_an_entry_of_another_form_in_a_parquet_file_names_nothing(tmp_path: Path, entry: bytes) -> None:
    path = save(tmp_path / "train.parquet", [0, 1])
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"huggingface": entry}), path)
    with pytest.raises(UserError, match=r"column 'tags' holds the number 0, whose tag is not known"):
        read_sentences("--x", path, COLUMNS)
    (tmp_path / "label.json").write_text(json.dumps(LABELS))
    (sentence,) = read_sentences("--x", path, COLUMNS)
    assert sentence.tags == ["O", "B-DNA"]


@pytest.mark.parametrize(
    ("tags", "labels", "words"),
    [
        ([1, 2], None, "train.jsonl, line 1: column 'tags' holds the number 1, whose tag is not known"),
        ([1, 3], LABELS, "line 1: column 'tags' holds 3; allowed: 0 to 2"),
        ([1, -1], LABELS, "line 1: column 'tags' holds -1; allowed: 0 to 2"),
        ([0, 2], LABELS, "line 1: tag 'I-DNA' after 'O': in IOB2"),
        ([0, True], LABELS, "line 1: column 'tags' holds 0; allowed: a list of texts"),
        ([1, 2], {"O": 0, "B-DNA": 2}, "label.json is not allowed; allowed: each tag with its number"),
        ([1, 2], [0], "label.json is not allowed; allowed: each tag with its number"),
    ],
)
def test_numbers_that_have_no_name_are_one_line(
    tmp_path: Path, tags: list[object], labels: object, words: str
) -> None:
    if labels is not None:
        (tmp_path / "label.json").write_text(json.dumps(labels))
    with pytest.raises(UserError) as caught:
        read_sentences("--x", save(tmp_path / "train.jsonl", tags), COLUMNS)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_numbers_of_known_data_sets() -> None:
    tner, other = names_of_hub("tner/bionlp2004"), names_of_hub("jnlpba/jnlpba")
    assert tner is not None
    assert other is not None
    assert (tner[:5], tner[9:]) == (["O", "B-DNA", "I-DNA", "B-protein", "I-protein"], ["B-RNA", "I-RNA"])
    assert other[3:5] == ["B-RNA", "I-RNA"]
    assert set(tner) == set(other)
    assert names_of_hub("own/data") is None
