"""BLEU in its two official variants: by hand, in corner cases, and on real systems."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolora.problems.scoring.bleu import bleu_moses, bleu_mteval
from autolora.problems.scoring.files import read_grouped
from tests.helpers.real_systems import e2e_expected, e2e_systems

sentences = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=8).map(" ".join)
outputs = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)
items = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=1, max_size=5)


def test_mteval_by_hand():
    """Matches 4/5, 3/4, 2/3, 1/2 and equal lengths."""
    assert bleu_mteval(["a b c d e"], [["A B C D f"]]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_mteval_short_output_is_penalised():
    """Four of eight words, all right."""
    assert bleu_mteval(["a b c d"], [["a b c d e f g h"]]) == pytest.approx(math.exp(1 - 8 / 4))


def test_one_word_too_few_is_penalised_and_one_too_many_is_not():
    """Four words, all right; then five, of which the last is wrong."""
    four, five = list("abcd"), list("abcde")
    assert bleu_mteval(["a b c d"], [["a b c d e"]]) == pytest.approx(math.exp(1 - 5 / 4))
    assert bleu_moses([four], [[five]]) == pytest.approx(100 * math.exp(1 - 5 / 4))
    assert bleu_moses([five], [[four]]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_mteval_a_short_line_has_no_ngrams():
    """A line of one word adds 1, 0, 0, 0 to the totals; the script would add 1, 0, -1, -2, and reach 135 here."""
    assert bleu_mteval(["a b c d e", "f"], [["a b c d e"], ["f"]]) == pytest.approx(1)
    assert bleu_mteval(["a b c d e", "g"], [["a b c d e"], ["f"]]) == pytest.approx((5 / 6) ** 0.25)


def test_mteval_an_empty_line_is_one_wrong_word():
    assert bleu_mteval(["a b c d e", ""], [["a b c d e"], ["f"]]) == pytest.approx((5 / 6) ** 0.25)
    assert bleu_mteval(["", ""], [["a b c d e"], ["f"]]) == pytest.approx(0, abs=1e-6)


def test_mteval_without_any_sequence_of_four_words_has_the_scripts_lower_bound():
    """Three words, all right: the script takes the share of fourgrams for 1e-15 / 1e-9, as there are none."""
    assert bleu_mteval(["a b c"], [["a b c"]]) == pytest.approx(1e-6**0.25)


def test_mteval_without_a_match_of_four_words_has_the_scripts_lower_bound():
    assert bleu_mteval(["a b c d"], [["a b c e"]]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1e-15) ** 0.25)


@given(st.lists(st.tuples(outputs, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_mteval_is_a_share_whatever_the_outputs(pairs):
    """One-word outputs among right sentences once scored 55272."""
    score = bleu_mteval([hyp for hyp, _ in pairs], [group for _, group in pairs])
    assert 0 <= score <= 1 + 1e-9


def test_moses_by_hand():
    refs = [["a", "b", "c", "d", "f"]]
    assert bleu_moses([["a", "b", "c", "d", "e"]], [refs]) == pytest.approx(100 * 0.2**0.25)


def test_moses_is_zero_without_a_fourgram_match():
    assert bleu_moses([["a", "b", "c"]], [[["a", "b", "c"]]]) == 0
    assert bleu_moses([[]], [[["a", "b", "c"]]]) == 0


def test_moses_takes_a_missing_reference_for_one_of_length_zero():
    """Output of 4 words, reference of 9: the empty one is nearer, so nothing is taken off for being short."""
    hyp, ref = list("abcd"), list("abcdefghi")
    assert bleu_moses([hyp], [[ref, []]]) == pytest.approx(100)
    assert bleu_moses([hyp], [[ref]]) == pytest.approx(100 * math.exp(1 - 9 / 4))


def test_the_nearest_reference_length_counts_and_of_two_equally_near_ones_the_shorter():
    four, five = list("abcd"), list("abcde")
    assert bleu_moses([four], [[list("abcdef"), list("ab"), list("abcdefghi")]]) == pytest.approx(100)
    assert bleu_moses([five], [[list("abcdef"), list("ab")]]) == pytest.approx(100 * math.exp(1 - 6 / 5))


@given(items)
def test_mteval_does_not_depend_on_the_order_of_references(pairs):
    hyps, refs = [hyp for hyp, _ in pairs], [list(group) for _, group in pairs]
    before = bleu_mteval(hyps, refs)
    for group in refs:
        random.Random(0).shuffle(group)
    assert bleu_mteval(hyps, refs) == pytest.approx(before)


def test_output_equal_to_a_reference_scores_one():
    hyps = ["the pub is near the river .", "a cheap place to eat"]
    refs = [["something else", hyps[0]], [hyps[1]]]
    assert bleu_mteval(hyps, refs) == pytest.approx(1)
    assert bleu_moses([h.split() for h in hyps], [[r.split() for r in g] for g in refs]) == pytest.approx(100)


@pytest.mark.slow
@pytest.mark.parametrize(("hyp", "ref"), e2e_systems())
def test_mteval_on_real_systems(metric_refs, hyp, ref):
    folder = metric_refs / "e2e_metrics"
    score = bleu_mteval(*read_grouped(folder / hyp, folder / ref))
    assert score == pytest.approx(e2e_expected(folder, hyp)["BLEU"], abs=1e-6)  # promised: 0.0005
