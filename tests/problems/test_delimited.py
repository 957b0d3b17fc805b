"""Cells of CSV and TSV text: quotes, line ends, torn rows, and the header alone."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolora.configs.errors import UserError
from autolora.problems.delimited import read_delimited, read_header


def rows(text: str, *, tabs: bool = False) -> list[list[str]]:
    found = read_delimited("--task.path: d", text, tabs=tabs)
    return [found.header, *found.rows]


@pytest.mark.parametrize("tabs", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_lines_and_short_rows(tabs: bool, end: str) -> None:
    lines = ["a,b", "", "1,2", "  ", '"3\u2028",', "4"]
    text = end.join(lines).replace(",", "\t" if tabs else ",")
    for found in (rows(text, tabs=tabs), rows(text + end, tabs=tabs)):
        assert found == [["a", "b"], ["1", "2"], ["3\u2028", ""], ["4", ""]]


@pytest.mark.parametrize("tabs", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_line_where_a_row_begins_is_told(tabs: bool, end: str) -> None:
    """Blank lines, the header and the line ends in quotes were not counted, so that "row 3" was not found."""
    lines = ["", '"a', 'a",b', "first,1", "", "  ", '"second', "", 'ends",2', "third,3", ""]
    text = end.join(lines).replace(",", "\t" if tabs else ",")
    assert read_delimited("d", text, tabs=tabs).lines == [4, 7, 10]
    with pytest.raises(UserError, match=r"^d, line 10: 3 cells, but the header has 2"):
        read_delimited("d", text.replace("3", "3\t4" if tabs else "3,4"), tabs=tabs)


def test_a_quote_in_tsv_is_plain_and_never_takes_other_rows_into_its_cell() -> None:
    stray = ['"no end\tx', 'its end"\ty', '"a" and "b"\tz', 'in "it"\tw', '"\tv', '""two"\tu']
    assert rows("a\tb\n" + "\n".join(stray), tabs=True)[1:] == [line.split("\t") for line in stray]


def test_quotes_around_a_whole_cell_of_tsv_are_taken_off() -> None:
    assert rows('"a"\t"b"\n"say ""hi"", now"\t"two\n\nlines"\n""\tx', tabs=True) == [
        ["a", "b"], ['say "hi", now', "two\n\nlines"], ["", "x"],
    ]  # fmt: skip


@given(st.lists(st.lists(st.text(st.sampled_from('a ",\n\r')), min_size=2, max_size=2), min_size=1), st.booleans())
def test_what_a_writer_of_csv_and_tsv_wrote_is_read_back(cells: list[list[str]], tabs: bool) -> None:
    text = io.StringIO()
    csv.writer(text, "excel-tab" if tabs else "excel").writerows([["a", "b"], *cells])
    assert rows(text.getvalue(), tabs=tabs)[1:] == cells


def test_a_cell_may_be_longer_than_the_csv_module_allows_unasked() -> None:
    before = csv.field_size_limit()
    assert rows("a,b\n" + "x" * 200_000 + ",y")[1] == ["x" * 200_000, "y"]
    assert csv.field_size_limit() == before


TORN = {
    "the first row": ("a,b\n1,2,3\n", False, r"line 2: 3 cells, but the header has 2; a cell with a comma must"),
    "a later row": ("a,b\n1,2\n\n3,4,\n", False, r"line 4: 3 cells, but the header has 2"),
    "all rows": ("a,b\n1,2,3\n4,5,6\n", False, r"line 2: 3 cells"),
    "TSV": ("a\tb\n1\t2\n1\t2\t3", True, r"line 3: 3 cells, but the header has 2; a cell can hold no tab"),
    "a tab between quotes": ('a\tb\n"1\t2"\t3', True, r"line 2: 3 cells"),
    "semicolons around quotes": (
        '"text";"label"\n"a, b";"x"\n',
        False,
        r"the header is one cell, '\"text\";\"label\"'; a",
    ),
    "bars": ('text|label\n"a"|x\n', False, r"the header is one cell, 'text\|label'; allowed"),
    "semicolons": (
        "text;label\na, b;x\n",
        False,
        r"the header is one cell, 'text;label'; allowed: columns that are "
        r"separated by commas \(\.csv\); a \.tsv file has tabs$",
    ),
    "tabs in CSV": ("text\tlabel\na, b\tx\n", False, r"the header is one cell, 'text\\tlabel'; allowed: columns that"),
    "commas in TSV": (
        "text,label\na,x\n",
        True,
        r"the header is one cell, 'text,label'; .* by tabs \(\.tsv\); a \.csv",
    ),
    "no end": ('a,b\n1,2\n"no end,3\n4,5\n', False, r"line 3: a cell in double quotes is not closed"),
    "words after the end": ('a,b\n"no end,3\n"x" y,5\n', False, r"line 2: a cell in double quotes is not closed, or"),
    "the header": ('"a,b\n1,2\n', False, r"line 1: a cell in double quotes is not closed"),
}


@pytest.mark.parametrize("case", TORN)
def test_a_torn_row_is_refused_with_its_line(case: str) -> None:
    text, tabs, message = TORN[case]
    with pytest.raises(UserError, match=rf"^--task\.path: d[,:] {message}") as caught:
        read_delimited("--task.path: d", text, tabs=tabs)
    assert "\n" not in str(caught.value)


HEADERS = {
    "plain": ("d.csv", b"id,text\n1,a\n", ["id", "text"]),
    "no rows": ("d.csv", b"id,text", ["id", "text"]),
    "a mark, blanks and quotes": (
        "d.csv",
        b'\xef\xbb\xbf\r\n \r\n"a\nb","c, d"\r\n1,2',
        ["a\nb", "c, d"],
    ),
    "TSV": ("d.tsv", b'"a\nb"\t"c\td\n1\t2\t3\n', ["a\nb", '"c', "d"]),
    "broken rows": ("d.csv", b'id,text\n1,"a\n', ["id", "text"]),
    "a long file": ("d.csv", b"id,text\n" + b"1,some words\n" * 100_000, ["id", "text"]),
    "a header that is longer than what is read": ("d.csv", b"id," + b"t," * 600_000 + b"x\n1\n", []),
    "nothing": ("d.tsv", b"\n\n", []),
    "a broken header": ("d.csv", b'"id,text\n1,a\n', []),
}


@pytest.mark.parametrize("case", HEADERS)
def test_the_header_alone_is_read_from_the_beginning_of_a_file(tmp_path: Path, case: str) -> None:
    name, content, header = HEADERS[case]
    (tmp_path / name).write_bytes(content)
    assert read_header("d", tmp_path / name) == header


@pytest.mark.parametrize(("code", "name"), [("latin-1", "latin1"), ("utf-16", "utf-16")])
def test_a_header_in_another_encoding_is_refused(tmp_path: Path, code: str, name: str) -> None:
    (tmp_path / "d.csv").write_bytes("caf\u00e9,text\n".encode(code))
    with pytest.raises(UserError, match=rf"^d is not UTF-8 \(byte .*, line 1\); to convert it: iconv -f {name} -t "):
        read_header("d", tmp_path / "d.csv")


def test_a_header_that_something_else_separates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text;label\na;b\n")
    with pytest.raises(UserError, match=r"^--task\.path: d: the header is one cell, 'text;label'; allowed: columns"):
        read_header("--task.path: d", tmp_path / "d.csv")
