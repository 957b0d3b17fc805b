"""A table is read from every format whatever its mark, line ends and names; a file that cannot be read is named."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.table import read_table
from tests.helpers.tables import LABELS, TEXTS, task_of, write


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_byte_order_mark_and_line_ends_of_windows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"d{suffix}", {"text": ["a", "b", "c"], "label": ["x", "y", "x"]})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    task = task_of(path)
    assert task.rows().train["text"][:] == ["a", "b", "c"]
    assert task.classes == ["x", "y"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_columns_may_have_numbers_for_names(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"d{suffix}", {"0": ["a", "b"], "1": ["x", "y"]})
    if suffix == ".parquet":
        pd.read_parquet(path).rename(columns=int).to_parquet(path)
    assert task_of(path, text_columns=["0"], label_column="1").rows().train["0"][:] == ["a", "b"]


def test_numbers_of_json_lines_stay_as_they_are_written(tmp_path: Path) -> None:
    """pandas once read 0.57 as 0.5700000000000001 and refused 22 digits, also in a column that is not used."""
    path = tmp_path / "d.jsonl"
    big = "1234567890123456789012"
    path.write_text(f'{{"text": "a", "label": 0.57, "id": {big}}}\n{{"text": "b", "label": {big}}}\n' * 3)
    task = task_of(path)
    task.rows()
    assert task.classes == [big, "0.57"]


def test_whole_labels_of_json_lines_stay_whole_beside_fractions_and_gaps(tmp_path: Path) -> None:
    """2 ** 53 + 1 is no float."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": 9007199254740993}\n{"text": "b", "label": 0.5}\n' * 2)
    table = read_table("--task.path", path)
    assert list(table["label"]) == [9007199254740993, 0.5] * 2
    path.write_text('{"text": "a", "label": 1}\n{"text": "b"}\n')
    with pytest.raises(UserError, match=r"line 2: the label is empty"):
        task_of(path, kind="regression").rows()


@pytest.mark.parametrize(("text", "label", "column"), [(r"\ud83d a", "x", "text"), ("a", r"x\udc00", "label")])
def test_half_a_character_is_named_with_its_row(tmp_path: Path, text: str, label: str, column: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": "y"}\n' + f'{{"text": "{text}", "label": "{label}"}}\n')
    with pytest.raises(
        UserError, match=rf"^--task\.path: .*d\.jsonl, line 2: column '{column}' holds a broken character"
    ):
        task_of(path).rows()


def test_a_column_that_pandas_saved_as_the_index_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).set_index("text").to_parquet(path)
    assert task_of(path).rows().train["text"][:] == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_columns": ["text", "text"]}, r"'text' is named twice; allowed: once$"),
        ({"text_columns": ["label"]}, r"'label' is named twice"),
        ({"label_column": "text"}, r"'text' is named twice"),
        ({"text_columns": ["label"], "label_column": "text"}, r"'label' is not allowed beside another task\.lab"),
    ],
)
def test_a_column_is_text_or_label(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": LABELS})
    with pytest.raises(UserError, match=rf"^--task\.text_columns.*: {message}"):
        task_of(path, **settings).rows()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no file"),
        ("d.xlsx", b"x", r"is not allowed; allowed: a file that ends in \.csv, \.tsv, \.jsonl, \.parquet"),
        ("d.csv", "text,label\nhé,x\n".encode("latin-1"), r"is not UTF-8 \(byte 12, line 2\); to convert it: iconv "),
        ("d.csv", b"", "has no rows"),
        ("d.tsv", b"\n\n", "has no rows"),
        ("d.csv", b"text,label\na,x\nb,c,y\n", r"line 3: 3 cells, but the header has 2"),
        ("d.tsv", b"text\tlabel\ta\na\tx\t\t\n", r"line 2: 4 cells, but the header has 3"),
        ("d.csv", b"text,label,label\na,x,y\n", r"has column 'label' 2 times; allowed: once"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\n\n{"text": "a", "label": "', "line 3: is no JSON"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\nnull\n', "line 2: is no object; allowed: one object a line"),
        (
            "d.jsonl",
            b'{"text": "a"}\n{"text": "a", "text": "b"}\n',
            "line 2: 'text' is given twice in one object; allo",
        ),
        ("d.jsonl", b'{"text": ' + b"[" * 200_000, "line 1: is no JSON"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\n5\n', "line 2: is no object"),
        ("d.jsonl", b'[{"text": "a", "label": "x"}]\n', r"line 1: is no object; allowed: one object a line$"),
        (
            "d.csv",
            b"c," * 999 + b"c\n" + b"1," * 999 + b"1\n",
            r"has no column text, label; it has: c, .* and 980 more$",
        ),
        ("d.parquet", b"no parquet", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        task_of(path).rows()
    assert str(caught.value).startswith("--task.path: ")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"x", b'{"index_columns": [], "columns": null}'])
def test_damaged_metadata_of_pandas_are_one_line(tmp_path: Path, content: bytes) -> None:
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"]}).replace_schema_metadata({b"pandas": content})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"^--task\.path: .*d\.parquet cannot be read") as caught:
        task_of(tmp_path / "d.parquet").rows()
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("--task.path") == 1


@pytest.mark.parametrize("error", [pa.ArrowNotImplementedError, pa.ArrowKeyError, pa.ArrowTypeError])
def test_what_arrow_cannot_read_is_one_line(tmp_path: Path, error: type, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.parquet", {"text": ["a", "b"], "label": ["x", "y"]})

    def read(path: Path) -> pd.DataFrame:
        raise error("Unsupported\ntype")

    monkeypatch.setattr(pd, "read_parquet", read)
    with pytest.raises(UserError, match=r"^--task\.path: .*d\.parquet cannot be read \(Unsupported\)$"):
        task_of(path).rows()
