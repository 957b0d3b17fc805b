"""The files of a scoring are read line by line; unreadable or unequal ones are refused."""

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.files import read_grouped, read_lines


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_groups(tmp_path):
    hyp = write(tmp_path, "hyp.txt", "\ufeffone\r\n\r\n three \r\n")
    ref = write(tmp_path, "ref.txt", "a\nb\n\nc\n\nd\ne\n\n\n")
    assert read_grouped(hyp, ref) == (["one", "", "three"], [["a", "b"], ["c"], ["d", "e"]])


def test_without_blank_lines_each_reference_is_an_item(tmp_path):
    assert read_grouped(write(tmp_path, "h", "x\ny"), write(tmp_path, "r", "a\nb")) == (["x", "y"], [["a"], ["b"]])
    assert read_grouped(write(tmp_path, "h", "x\n"), write(tmp_path, "r", "a\nb\n")) == (["x"], [["a", "b"]])


def test_line_separators_inside_a_sentence_stay(tmp_path):
    assert read_lines(write(tmp_path, "h", "a\u2028b\x85c\nd\n")) == ["a\u2028b\x85c", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "hyp.txt: is empty"),
        (
            b"fine\ncaf\xe9\n",
            r"hyp.txt is not UTF-8 \(byte 8, line 2\); to convert it: iconv -f latin1 -t utf-8 .*hyp.txt > new.txt$",
        ),
        (None, "hyp.txt: no such file"),
    ],
)
def test_unreadable_files(tmp_path, text, message):
    path = tmp_path / "hyp.txt" if text is None else write(tmp_path, "hyp.txt", text)
    with pytest.raises(UserError, match=message):
        read_lines(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_lines(tmp_path)


@pytest.mark.parametrize(
    ("hyp", "ref", "message"),
    [
        ("x\n", "a\nb\n\nc\n", "1 hypotheses, but .*ref has references for 2 items .*ref line 4 has no hypothesis"),
        ("x\ny\nz\n", "a\n\nb\n", "3 hypotheses, but .*ref has references for 2 items .*hyp line 3 has no references"),
        ("x\ny\n", "a\n\n\nb\n", "ref: line 3 is blank, not a reference"),
        ("x\n", "\n \n", "ref: has only blank lines"),
    ],
)
def test_counts_that_differ(tmp_path, hyp, ref, message):
    with pytest.raises(UserError, match=message) as error:
        read_grouped(write(tmp_path, "hyp", hyp), write(tmp_path, "ref", ref))
    assert "\n" not in str(error.value)
