"""The tokens that BLEU and NIST share, and clipped matches."""

import pytest

from autolora.problems.scoring.ngrams import clipped_matches, mteval_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Pub, near the River.", ["the", "pub", ",", "near", "the", "river", "."]),
        ("£20-25, i.e. 3.5% of 1,000", ["£20", "-", "25", ",", "i", ".", "e", ".", "3.5", "%", "of", "1,000"]),
        ("&quot;Fish &amp; Chips&quot;", ['"', "fish", "&", "chips", '"']),
        ("it's well-known", ["it's", "well-known"]),  # apostrophes and hyphens between letters stay
        ("", [""]),  # the script's empty line is one empty token
    ],
)
def test_mteval_tokens(text, tokens):
    assert mteval_tokens(text) == tokens


def test_matches_are_clipped_at_the_most_in_any_one_reference():
    refs = [["the", "cat"], ["the", "the", "dog"]]
    assert clipped_matches(["the", "the", "the", "cat"], refs, 1) == {("the",): 2, ("cat",): 1}
