"""Tagged sentences: every format gives the same, and every mistake is named with its line or row."""

import json
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.tagged_files import Sentence, find_split, read_sentences, unread_of_split

WORDS = [["IL-2", "gene", "and", "CD28"], ["{", "x", "}"], ["Jürgen"]]
TAGS = [["B-DNA", "I-DNA", "O", "B-protein"], ["O", "B-DNA", "B-DNA"], ["O"]]
COLUMNS = ("tokens", "tags")


def conll(separator: str) -> str:
    blocks = (zip(words, tags, strict=True) for words, tags in zip(WORDS, TAGS, strict=True))
    return "\n".join("".join(f"{word}{separator}{tag}\n" for word, tag in block) for block in blocks)


def read(path: Path, columns: tuple[str, str] = COLUMNS) -> list[Sentence]:
    return read_sentences("--task.path", path, columns)


@pytest.mark.parametrize("suffix", [".txt", ".conll", ".iob2", ".tsv", ".CONLL"])
@pytest.mark.parametrize("separator", ["\t", " ", " NN x "])
def test_columns(tmp_path: Path, suffix: str, separator: str) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_text("-DOCSTART- -X- O\n\n###MEDLINE:95369245\n\n" + conll(separator) + "\n\n", encoding="utf-8")
    found = read(path)
    assert [s.tokens for s in found] == WORDS
    assert [s.tags for s in found] == TAGS
    assert found[1].lines == [10, 11, 12]


@pytest.mark.parametrize("word", ["10\u00a0000", "a\u3000b", "a\u2028b", "a\x85b", "a\x0cb"])
@pytest.mark.parametrize("separator", [" ", "  ", "\t"])
def test_only_blanks_and_tabs_are_between_columns(tmp_path: Path, word: str, separator: str) -> None:
    """A no-break space inside a word would cut it, and the tag still be the last column."""
    path = tmp_path / "d.conll"
    path.write_text(f"{word}{separator}B-x\nb{separator}O\n", encoding="utf-8")
    (sentence,) = read(path)
    assert sentence.tokens == [word, "b"]
    assert sentence.tags == ["B-x", "O"]


def test_a_mark_of_a_document_ends_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "d.iob2"
    path.write_text("a\tO\n###MEDLINE:1\nb\tB-x\n")
    assert [s.tokens for s in read(path)] == [["a"], ["b"]]


@pytest.mark.parametrize("separator", ["\t", " ", "\tNN\tx\t"])
@pytest.mark.parametrize("comment", ["# id = 1", "# text = Vitamin B-12", "#\thttp://x.org [2009]\tx\ty\tz"])
def test_comments_are_no_words(tmp_path: Path, separator: str, comment: str) -> None:
    path = tmp_path / "d.conll"
    path.write_text(f"{comment}\na{separator}O\n#{separator}B-x\n\n{comment}\n#{separator}O\n", encoding="utf-8")
    assert read(path) == [Sentence(["a", "#"], ["O", "B-x"], [2, 3]), Sentence(["#"], ["O"], [6])]


def test_a_word_that_looks_like_a_comment_is_never_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.conll"
    path.write_text("a NN x O\n# O\n")
    assert read(path)[0].tokens == ["a", "#"]
    path.write_text("###MEDLINE:1\n\n#\tO\na\tO\n")
    assert read(path)[0].tokens == ["#", "a"]
    path.write_text("a O\n# protein\n")
    with pytest.raises(UserError, match=r"line 2: tag 'protein' is not allowed"):
        read(path)
    path.write_text("# id\n")
    with pytest.raises(UserError, match=r"line 1: tag 'id' is not allowed"):
        read(path)


def test_numbers_in_the_first_column_may_be_words(tmp_path: Path) -> None:
    path = tmp_path / "d.conll"
    path.write_text("1 O\n\n1 O\n2 O\n\nIL B-x\n2 I-x\n")
    assert [s.tokens for s in read(path)] == [["1"], ["1", "2"], ["IL", "2"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".JSONL", ".PARQUET"])
@pytest.mark.parametrize("columns", [COLUMNS, ("words", "ner")])
def test_lists(tmp_path: Path, suffix: str, columns: tuple[str, str]) -> None:
    path = tmp_path / f"d{suffix}"
    frame = pd.DataFrame({"id": [1, 2, 3], columns[0]: WORDS, columns[1]: TAGS})
    if suffix.lower() == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    found = read(path, columns)
    assert [s.tokens for s in found] == WORDS
    assert [s.tags for s in found] == TAGS
    assert found[1].lines == [2, 2, 2]


def rows(*pairs: tuple[object, object]) -> str:
    return "".join(json.dumps({"tokens": tokens, "tags": tags}) + "\n" for tokens, tags in pairs)


OK = (["a"], ["O"])
WRONG = {
    "one column": ("d.txt", "a O\nb\n", r"d\.txt: line 2 has one column \('b'\)"),
    "an empty word": ("d.tsv", "a\tO\n\tB-x\n", r"d\.tsv, line 2: a word is empty"),
    "no prefix": ("d.conll", "a O\nb protein\n", r"line 2: tag 'protein' is not allowed; allowed: O, B-TYPE, I-TYPE"),
    "BIOES": ("d.conll", "a B-x\nb E-x\n", r"line 2: tag 'E-x' .* \(IOB2\); convert BIOES and BILOU to IOB2"),
    "IO": ("d.conll", "a O\n\nb I-x\n", r"line 3: tag 'I-x' after 'O': .* begins with B-x \(IO and IOB1 are not"),
    "another type": ("d.conll", "a B-y\nb I-x\n", r"line 2: tag 'I-x' after 'B-y'"),
    "across sentences": ("d.conll", "a B-x\n\nb I-x\n", r"line 3: tag 'I-x' after 'O'"),
    "numbered words": (
        "d.tsv",
        "# 1\n1\tA\tO\n\n1\tB\tB-x\n2\tC\tO\n",
        r"d\.tsv: line 4: the first column numbers the words; allowed: the word first, the tag last$",
    ),
    "CoNLL-U": ("d.conll", "1-2 ab O\n1 a O\n2 b O\n", r"d\.conll: line 1: the first column numbers the words"),
    "only blank lines": ("d.conll", "\n\n", r"d\.conll has no sentences"),
    "empty": ("d.conll", "", r"d\.conll: is empty"),
    "not UTF-8": (
        "d.conll",
        b"a O\n\xff O\n",
        r"d\.conll is not UTF-8 \(byte 4, line 2\); to convert it: iconv -f latin1 -t utf-8 .*d\.conll > new\.conll$",
    ),
    "a tab at the end": (
        "d.conll",
        "a\tO\nb\tB-x\t\n",
        r"d\.conll: line 2: the last column, which has the tag, is empty; remove the tab at the end of the line, or",
    ),
    "an empty tag in a list": ("d.jsonl", rows((["a"], [""])), r"line 1: a tag is empty; allowed: O, B-TYPE, I-TYPE"),
    "lengths": ("d.jsonl", rows(OK, (["a", "b"], ["O"])), r"line 2: 2 words in 'tokens', but 1 tags in 'tags'"),
    "an empty word in a list": ("d.jsonl", rows(OK, (["a", " "], ["O", "O"])), r"line 2: a word is empty"),
    "a tab in a word": ("d.jsonl", rows((["a\tb"], ["O"])), r"line 1: 'a\\tb' is not a word"),
    "a mark for a word": ("d.jsonl", rows((["-DOCSTART-"], ["O"])), r"line 1: '-DOCSTART-' is not a word"),
    "no words": ("d.jsonl", rows(OK, ([], [])), r"line 2: column 'tokens' has no words"),
    "numbers for tags": ("d.jsonl", rows((["a"], [0])), r"line 1: column 'tags' holds the number 0, whose"),
    "a text for a list": ("d.jsonl", rows(("a b", "O O")), r"line 1: column 'tokens' holds 'a b'; allowed: a list"),
    "null": ("d.jsonl", rows(OK, (["a"], None)), r"line 2: column 'tags' holds nothing; allowed: a list"),
    "no column": ("d.jsonl", '{"tokens": ["a"], "ner": ["O"]}\n', r"has no column tags; it has: tokens, ner"),
    "a tag in a list": ("d.jsonl", rows((["a", "b"], ["B-x", "L-x"])), r"line 1: tag 'L-x' is not allowed"),
    "half a character": (
        "d.jsonl",
        rows((["a", "b\ude00"], ["O", "B-x"])),
        r"line 1: column 'tokens' holds a broken",
    ),
    "broken JSON": ("d.jsonl", '{"tokens": [', r"d\.jsonl, line 1: is no JSON"),
    "a table": ("d.csv", "tokens,tags\n", r"d\.csv' is not allowed; allowed: a file that ends in \.conll, \.iob2, \."),
    "nothing": ("absent.conll", None, r"no file '.*absent\.conll'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_learned_is_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    name, content, message = WRONG[case]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith("--task.path: ")
    assert "\n" not in str(caught.value)


def test_the_file_of_a_split(tmp_path: Path) -> None:
    for name in ("train.conll", "train.md", "test.jsonl", "test.parquet"):
        (tmp_path / name).touch()
    assert find_split(tmp_path, "train") == tmp_path / "train.conll"
    assert find_split(tmp_path, "validation") is None
    (tmp_path / "Dev.IOB2").touch()
    assert find_split(tmp_path, "validation") == tmp_path / "Dev.IOB2"
    with pytest.raises(UserError, match=r"has both test\.jsonl and test\.parquet; name the"):
        find_split(tmp_path, "test")


def test_files_that_only_seem_to_be_those_of_a_split(tmp_path: Path) -> None:
    for name in ("test.json", "test.conll.gz", "test.conll", "tests.json", "dev.csv", "x.test.json", ".test"):
        (tmp_path / name).touch()
    (tmp_path / "valid.d").mkdir()
    assert unread_of_split(tmp_path, "test") == ["test.conll.gz", "test.json"]
    assert unread_of_split(tmp_path, "validation") == ["dev.csv"]
    assert unread_of_split(tmp_path, "train") == []
