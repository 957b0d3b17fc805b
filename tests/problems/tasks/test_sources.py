"""Every kind of source gives the same rows; what cannot be read is one line that names the
cause."""

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset

from autolora.configs.errors import UserError
from autolora.problems.rows import digest
from autolora.problems.tasks.sources import rows_of, splits_of

ROWS = [
    {"text": "a film, dull", "label": "007"},
    {"text": 'our "room"', "label": "NA"},
    {"text": "zwölf", "label": ""},
]
CSV = 'text,label\n"a film, dull",007\n"our ""room""",NA\nzwölf,\n'
TSV = 'text\tlabel\na film, dull\t007\nour "room"\tNA\nzwölf\t\n'
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)
HEAD = (
    "---\n"
    "configs:\n"
    "- config_name: {}\n"
    "  data_files: one.jsonl\n"
    "- config_name: two\n"
    "  data_files: two.jsonl\n"
    "---\n"
)


def load(path: str, configuration: str | None = None, **how: bool) -> Dataset:
    return splits_of(path, configuration, **how)["train"]


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", CSV),
        ("d.CSV", f"\ufeff{CSV}"),
        ("d.csv.gz", CSV),
        ("d.tsv", TSV),
        ("d.jsonl", LINES),
        ("d.jsonl.gz", LINES),
        ("d.json", json.dumps(ROWS)),
    ],
)
def test_a_file_and_its_folder_give_its_rows_as_texts(
    tmp_path: Path, name: str, content: str
) -> None:
    """007 stays 007, and NA is no missing value; a moved file has the same digest."""
    file = written(tmp_path / "data" / name, content)
    assert load(str(file)).to_list() == ROWS
    if name != "d.CSV":  # datasets looks for endings in small letters
        assert load(str(file.parent)).to_list() == ROWS
    assert digest(load(str(file))) == digest(load(str(written(tmp_path / name, content))))


def test_sentences_of_columns(tmp_path: Path) -> None:
    content = "-DOCSTART- O\n\na b\tN\tO\nb\tN\tB-X\n\n \n# O\nc I-X \n"
    expected = [
        {"tokens": ["a b", "b"], "tags": ["O", "B-X"]},
        {"tokens": ["#", "c"], "tags": ["O", "I-X"]},
    ]
    for name in ("d.conll", "d.iob2.gz", "d.txt", "d.tsv"):
        assert load(str(written(tmp_path / name, content)), tagged=True).to_list() == expected
    for name in ("train.iob2", "devel.iob2"):
        written(tmp_path / "folder" / name, content)
    assert list(splits_of(str(tmp_path / "folder"), tagged=True)) == ["train", "validation"]


def test_a_folder_is_read_as_it_is_now(tmp_path: Path) -> None:
    """By datasets' own cache, a folder whose README lists configurations is the last one of its
    name."""
    for parent, text in (("a", "first"), ("b", "second"), ("b", "changed")):
        folder = tmp_path / parent / "data"
        for name in ("one", "two"):
            written(folder / f"{name}.jsonl", json.dumps({"text": f"{text} {name}"}))
        written(folder / "README.md", HEAD.format("one"))
        assert load(str(folder), "two")["text"][:] == [f"{text} two"]


def test_splits_that_a_folder_does_not_name_are_given_by_patterns(tmp_path: Path) -> None:
    """Left to datasets, train_sft and train_gen become one split."""
    for name, count in (("train_sft", 3), ("train_gen", 2)):
        written(tmp_path / "default" / name / "0.jsonl", '{"text": "a"}\n' * count)
    files = {name: f"default/{name}/*.jsonl" for name in ("train_sft", "train_gen")}
    found = splits_of(str(tmp_path), None, files)
    assert {name: len(rows) for name, rows in found.items()} == {"train_sft": 3, "train_gen": 2}


def test_the_digest_is_of_values_in_their_order() -> None:
    rows = Dataset.from_dict({"a": range(4), "b": ["x"] * 4})
    assert digest(rows.select([2, 3])) == digest(Dataset.from_dict({"b": ["x"] * 2, "a": [2, 3]}))
    assert len({digest(rows.select(numbers)) for numbers in ([0, 1], [1, 0], [0], [0, 1, 2])}) == 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", "text,label\na,b\nc,d,e\n", "Expected 2 fields in line 3, saw 3"),
        ("d.csv", "text,label\nzwölf,a\n".encode("latin1"), "codec can't decode byte"),
        ("d.jsonl", "", "a file is empty"),
        ("d.conll", "1 a O\n2 b O\n\n1 c O\n", "the first column numbers the words"),
        ("d.conll", "a\tO\n\tO\n", "'O' is no word and tag"),
        ("d.xlsx", "a", ".csv, .tsv, .jsonl"),
        ("README.md", HEAD.format("one"), "'one', 'two'"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = written(tmp_path / name, content)
    for other in ("one", "two"):
        written(tmp_path / f"{other}.jsonl", '{"a": 1}')
    path = path.parent if name == "README.md" else path
    with pytest.raises(UserError) as caught:
        splits_of(str(path), tagged=name.endswith("conll"), option="--task.test_path")
    assert str(caught.value).startswith(f"--task.test_path: cannot load {str(path)!r}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_expression_joins_parts_of_splits_that_are_there() -> None:
    splits = {"train": Dataset.from_dict({"a": range(5)}), "test": Dataset.from_dict({"a": [7, 8]})}
    assert rows_of(splits, "test+train[-40%:]")["a"][:] == [7, 8, 3, 4]
    with pytest.raises(UserError, match=r"--task.evaluation_split.*nope.*'train'"):
        rows_of(splits, "nope")
