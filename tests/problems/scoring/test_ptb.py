"""The Penn Treebank tokeniser, which runs in Java."""

import pytest

from autolora.problems.scoring.ptb import ptb_tokenize


@pytest.mark.trains
@pytest.mark.usefixtures("java")
def test_tokens(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")  # must not change how text is read
    # Brackets stay: the official list of punctuation has them in capitals, the tokeniser in small letters.
    sentences = ["", "It's \"nice\" (cheap), isn't it?", "café – £20-25", "", "a\u2028b\tc\r\nd", "..."]
    assert ptb_tokenize(sentences) == ["", "it 's nice -lrb- cheap -rrb- is n't it", "café # 20-25", "", "a b c d", ""]


def test_nothing_needs_no_java():
    assert ptb_tokenize([]) == []
