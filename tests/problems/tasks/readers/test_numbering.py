"""The words by which messages call rows, so that a user finds them in an editor."""

from autolora.problems.tasks.readers.numbering import LINE, ROW, Numbered, at, in_words


def test_a_row_is_called_by_its_line_or_by_its_number_and_what_that_counts() -> None:
    assert at(LINE, 19) == "line 19"
    assert at(ROW, 17) == "row 17 (counted from 1)"
    assert in_words(LINE, [3]) == "1 row (line 3)"
    assert in_words(LINE, [3, 5, 6, 8, 9, 12]) == "6 rows (lines 3, 5, 6, 8, 9, ...)"
    assert in_words(ROW, [3]) == "1 row (number 3, counted from 1)"
    assert in_words(ROW, [3, 5]) == "2 rows (numbers 3, 5, counted from 1)"


def test_rows_without_known_lines_are_counted_from_1() -> None:
    assert Numbered.by_row([{"text": "a"}, {"text": "b"}])[1:] == (range(1, 3), ROW)
