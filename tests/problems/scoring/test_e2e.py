"""The scores of the E2E challenge: by hand, in corner cases, and on real systems."""

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.e2e import score_e2e
from autolora.problems.scoring.files import read_grouped
from tests.helpers.real_systems import e2e_expected, e2e_systems


def test_some_metrics_need_no_java():
    scores = score_e2e(["a b c d"], [["a b c d", "x"]], ["NIST", "BLEU"])
    assert list(scores) == ["BLEU", "NIST"]
    assert scores["BLEU"] == pytest.approx(1)


@pytest.mark.trains
@pytest.mark.usefixtures("java")
def test_rouge_l_by_hand():
    """Longest common subsequence 3 of 4 and 6 tokens without the full stop; beta 1.2."""
    precision, recall, beta = 3 / 4, 3 / 6, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    found = score_e2e(["The cat sat here."], [["the black cat then sat down", "dog"]], ["ROUGE_L"])["ROUGE_L"]
    assert found == pytest.approx(expected)


@pytest.mark.trains
@pytest.mark.usefixtures("java")
def test_cider_depends_on_the_set():
    """Words that every item has weigh nothing, so one item alone scores 0; equal rare texts score 10."""
    assert score_e2e(["a b c d"], [["a b c d"]], ["CIDEr"])["CIDEr"] == 0
    two = ["alpha beta gamma delta", "one two three four"]
    assert score_e2e(two, [[text] for text in two], ["CIDEr"])["CIDEr"] == pytest.approx(10)


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_empty_lines_and_order_of_references():
    """An empty output, first or last, keeps its place; no metric depends on the order of references."""
    hyps = ["", "The Eagle is a cheap pub.", "Aromi £20-25 – café", ""]
    refs = [["Zizzi is a pub."], ["The Eagle is a pub.", "A cheap pub: The Eagle."], ["Aromi is a café."], ["End."]]
    scores = score_e2e(hyps, refs)
    assert list(scores) == ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"]
    assert all(0 <= value < 10 for value in scores.values())
    assert score_e2e(hyps, [group[::-1] for group in refs]) == pytest.approx(scores)
    assert score_e2e(hyps[1:3], refs[1:3], ["ROUGE_L"])["ROUGE_L"] == pytest.approx(2 * scores["ROUGE_L"])


@pytest.mark.parametrize(
    ("hyps", "refs", "message"),
    [
        (["a"], [["a"], ["b"]], "1 hypotheses, but references for 2 items"),
        (["a", "b"], [["a"], []], "item 2 has no reference"),
        ([], [], "no hypotheses"),
    ],
)
def test_what_does_not_pair_up(hyps, refs, message):
    with pytest.raises(UserError, match=message):
        score_e2e(hyps, refs, ["BLEU"])


@pytest.mark.slow
@pytest.mark.usefixtures("java")
@pytest.mark.parametrize(("hyp", "ref"), e2e_systems())
def test_real_systems(metric_refs, hyp, ref):
    """The published figures, to the digits that were published (four); promised: 0.0005 and 0.005."""
    folder = metric_refs / "e2e_metrics"
    expected = e2e_expected(folder, hyp)
    scores = score_e2e(*read_grouped(folder / hyp, folder / ref))
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=0.0001), name
