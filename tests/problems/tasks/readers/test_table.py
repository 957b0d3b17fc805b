"""A table is read from every format whatever its mark, line ends and names; a file that cannot be read is named."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import UserError
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


def test_a_value_that_nests_deeply_is_no_harm_in_another_column(tmp_path: Path) -> None:
    """pandas reads up to 1,024 levels, Python's json fewer."""
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f'{{"text": "{x}", "label": "{x}", "m": {"[" * 1000}{"]" * 1000}}}\n' for x in "abcabc"))
    assert len(task_of(path).rows().train) > 1


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
        ("d.csv", "text,label\nhé,x\n".encode("latin-1"), r"is not UTF-8 \(byte "),
        ("d.csv", b"", "has no rows"),
        ("d.tsv", b"\n\n", "has no rows"),
        ("d.csv", b"text,label\na,x\nb,c,y\n", r"row 2: 3 cells, but the header has 2"),
        ("d.tsv", b"text\tlabel\ta\na\tx\t\t\n", r"row 1: 4 cells, but the header has 3"),
        ("d.csv", b"text,label,label\na,x,y\n", r"has column 'label' 2 times; allowed: once"),
        ("d.jsonl", b'{"text": "a", "label": ', "cannot be read"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\nnull\n', "has a line that is no JSON object"),
        (
            "d.jsonl",
            b'{"text": "a"}\n{"text": "a", "text": "b"}\n',
            "line 2: 'text' is given twice in one object; allo",
        ),
        ("d.jsonl", b'{"text": ' + b"[" * 200_000, "cannot be read"),
        ("d.jsonl", b'{"text": "a", "label": "x"}\n5\n', "has a line that is no JSON object"),
        ("d.jsonl", b"[" + b"1, " * 999 + b"1]\n", r"has no column text, label; it has: 0, 1, .*, 19 and 980 more$"),
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
