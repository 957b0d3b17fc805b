"""NIST: by hand, in corner cases, and on real systems."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolora.problems.scoring.files import read_grouped
from autolora.problems.scoring.nist import nist
from tests.helpers.real_systems import e2e_expected, e2e_systems

sentences = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=8).map(" ".join)
items = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=1, max_size=5)


def test_by_hand():
    """References "a b" and "a c": a carries log2(4/2), b log2(4/1), "a b" log2(2/1) bits; no longer n-grams."""
    assert nist(["A b"], [["a b", "a c"]]) == pytest.approx((1 + 2) / 2 + 1 / 1)


def test_two_thirds_of_the_length_cost_half():
    """The constant of the length penalty; mean reference length 3, all four words of the references rare alike."""
    whole = nist(["a b c"], [["a b c"]])
    assert nist(["a b"], [["a b c"]]) == pytest.approx(whole / 2)


def test_information_comes_from_all_items():
    """ "a" is half of all reference words, whichever item they belong to."""
    refs = [["a x"], ["a y"]]
    assert nist(["a", "z"], refs) < nist(["x", "z"], refs)


def test_empty_output_scores_nothing():
    assert nist([""], [["a b c"]]) == 0
    assert nist(["", "a b c d"], [["e f"], ["a b c d"]]) > 0


def test_a_short_output_takes_no_ngrams_away():
    """Pairs "b c" and "b d" carry a bit each, as do "a b c" and "a b d"; "e" has neither pairs nor triples."""
    texts = ["a b c a b d", "e"]
    words = (4 * math.log2(7 / 2) + 3 * math.log2(7)) / 7
    assert nist(texts, [[text] for text in texts]) == pytest.approx(words + 2 / 5 + 2 / 4)  # the script: 2 / 3


@given(items)
def test_does_not_depend_on_the_order_of_references(pairs):
    hyps, refs = [hyp for hyp, _ in pairs], [list(group) for _, group in pairs]
    before = nist(hyps, refs)
    for group in refs:
        random.Random(0).shuffle(group)
    assert nist(hyps, refs) == pytest.approx(before)


@pytest.mark.slow
@pytest.mark.parametrize(("hyp", "ref"), e2e_systems())
def test_on_real_systems(metric_refs, hyp, ref):
    folder = metric_refs / "e2e_metrics"
    score = nist(*read_grouped(folder / hyp, folder / ref))
    assert score == pytest.approx(e2e_expected(folder, hyp)["NIST"], abs=1e-6)  # promised: 0.0005


def test_the_length_is_compared_with_the_mean_of_the_references() -> None:
    """Two words, references of two and of four: two thirds of the mean cost half; each word has log2(6) bits."""
    assert nist(["a b"], [["a b", "c d e f"]]) == pytest.approx(0.5 * math.log2(6))


def test_n_grams_of_five_words_count() -> None:
    """Of two references that differ in the last word, "e" and all that end with it carry a bit more than the words
    before them: 1 of 4 pairs, 1 of 3 triples, 1 of 2 fours, and the one of five."""
    words = (4 * math.log2(10 / 2) + math.log2(10)) / 5
    expected = words + 1 / 4 + 1 / 3 + 1 / 2 + 1
    assert nist(["a b c d e"], [["a b c d e", "a b c d f"]]) == pytest.approx(expected)


def test_one_word_of_eleven_too_few_costs_something() -> None:
    """Each word carries log2(11) bits; the penalty is 1/2 to the square of log(10 / 11) / log(2 / 3)."""
    words = [f"w{number}" for number in range(11)]
    expected = math.log2(11) * 0.5 ** ((math.log(10 / 11) / math.log(2 / 3)) ** 2)
    assert nist([" ".join(words[:10])], [[" ".join(words)]]) == pytest.approx(expected)
