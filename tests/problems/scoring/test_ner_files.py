"""The files of tagged sentences: both formats, and what is refused."""

import json

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.ner_files import read_ner, read_tagged

CONLL = "-DOCSTART- O\n\n###MEDLINE:95369245\n\nIL-2 NN B-DNA\ngene NN I-DNA\n\n\nx\tNN\tO\n"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_columns_and_json_lines_are_the_same(tmp_path):
    rows = [{"tokens": ["IL-2", "gene"], "tags": ["B-DNA", "O"]}, {"tokens": ["x"], "tags": ["O"]}]
    hyp = write(tmp_path, "hyp.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    gold, pred = read_ner(hyp, write(tmp_path, "ref.conll", CONLL))
    assert gold == [["B-DNA", "I-DNA"], ["O"]]
    assert pred == [["B-DNA", "O"], ["O"]]


def test_a_first_word_may_be_a_brace(tmp_path):
    assert read_tagged(write(tmp_path, "hyp", "{\tO\tB-DNA\n}\tO\tO\n"))[0].tags == ["B-DNA", "O"]
    assert read_tagged(write(tmp_path, "hyp", "{ O\na B-DNA\n} O\n"))[0].tags == ["O", "B-DNA", "O"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a B-DNA\nb\n", r"bad: line 2 has one column \('b'\)"),
        ("a B-DNA\nb protein\n", r"bad: line 2: tag 'protein' is not allowed; allowed: O, B-TYPE, I-TYPE"),
        ("\n\n", "bad: has no sentences"),
        ('{"tokens": ["a"]}\n', 'bad: line 1 needs "tokens" and "tags"'),
        ('{"tokens": ["a"], "tags": [1]}\n', "both lists of strings"),
        ('{"tokens": ["a"], "tags": []}\n', "bad: line 1 has 1 tokens, but 0 tags"),
        ('{"tokens": \n', "bad: line 1 is not JSON"),
        ('{"tokens":' + "[" * 200_000, "bad: line 1 is not JSON"),
        ('{"tokens": ["a"], "tags": ["O"], "tags": ["B-X"]}\n', "bad: line 1: 'tags' is given twice in one object"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_tagged(write(tmp_path, "bad", text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hyp", "message"),
    [
        ("a O\nb O\n\nX O\n", "hyp: line 4 has token 'X', but .*ref line 4 has 'c'"),
        ("a O\n\nc O\n", "hyp: sentence 1, .* has 1 tokens, but 2 in .*ref; if the system cut off words, add them"),
        ("a O\nb O\n", "hyp: 1 sentences, but .*ref has 2"),
    ],
)
def test_files_that_do_not_pair_up(tmp_path, hyp, message):
    ref = write(tmp_path, "ref", "a O\nb O\n\nc O\n")
    with pytest.raises(UserError, match=message):
        read_ner(write(tmp_path, "hyp", hyp), ref)
