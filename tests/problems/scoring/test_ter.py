"""TER: by hand, its bound, and every edit of tercom."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolora.problems.scoring.ter import EditDistance, corpus_ter, ter_edits
from autolora.problems.scoring.webnlg_files import ParallelFiles, read_parallel

words = st.lists(st.sampled_from("abcde"), max_size=12)


def levenshtein(left, right):
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row, last = [i], row
        for j, b in enumerate(right, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
    return row[-1]


@pytest.mark.parametrize(
    ("hyp", "ref", "edits"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b", "a b c d", 2),
        ("a b c d", "a d", 2),
        ("c d a b", "a b c d", 1),  # one shift of two words
        ("b c d e f a", "a b c d e f", 1),
        ("c a b x", "a b c d", 2),  # a shift and a substitution
        ("", "a b c", 3),
        ("a b", "", 2),
        ("", "", 0),
    ],
)
def test_by_hand(hyp, ref, edits):
    assert ter_edits(hyp.split(), ref.split()) == edits


def test_far_words_are_not_shifted():
    """More than 50 words away counts as one deletion and one insertion."""
    middle = [str(number) for number in range(60)]
    assert ter_edits(["x", *middle], [*middle, "x"]) == 2
    assert ter_edits(["x", *middle[:40]], [*middle[:40], "x"]) == 1


@pytest.mark.parametrize(("between", "to_the_right", "to_the_left"), [(49, 1, 1), (50, 1, 2), (51, 2, 2)])
def test_a_word_moves_over_50_words_at_most(between, to_the_right, to_the_left):
    """As in tercom, over one fewer to the left."""
    middle = [str(number) for number in range(between)]
    assert ter_edits(["x", *middle], [*middle, "x"]) == to_the_right
    assert ter_edits([*middle, "x"], ["x", *middle]) == to_the_left


@pytest.mark.parametrize(("together", "edits"), [(10, 1), (11, 2)])
def test_ten_words_move_together_at_most(together, edits):
    """The others are more, so that it is not they that move."""
    words, others = [f"a{number}" for number in range(together)], [f"b{number}" for number in range(20)]
    assert ter_edits([*words, *others], [*others, *words]) == edits


def test_corpus_takes_the_best_reference_and_the_mean_length():
    edits, length = corpus_ter([["a", "b"], ["c"]], [[["a", "b"], ["x", "y", "z"]], [["d"]]])
    assert (edits, length) == (0 + 1, 2.5 + 1)
    assert corpus_ter([["a", "b"]], [[["x", "y", "z"], ["a", "b"]]]) == (0, 2.5), "the best one need not be the first"


@given(words, words)
def test_never_more_than_the_edit_distance(hyp, ref):
    assert abs(len(hyp) - len(ref)) <= ter_edits(hyp, ref) <= levenshtein(hyp, ref)


@given(words, st.lists(st.sampled_from("abcde"), min_size=1, max_size=12))
def test_bit_parallel_distance_is_the_edit_distance(hyp, ref):
    assert EditDistance(ref)(hyp) == levenshtein(hyp, ref)


@pytest.mark.slow
def test_every_edit_of_tercom(metric_refs):
    """The challenge's files hold tercom's own edit counts: "9442.0/23452.66..."; ours are the same number.

    The others, as fractions, are among the real systems of test_webnlg.py.
    """
    part, system = "new-cat", "GKB_Unimelb"
    folder = metric_refs / "webnlg2017"
    expected = json.loads((folder / "expected.json").read_text())["expected"][part][system]["ter_3ref"][0][1]
    files = [folder / "refs" / f"gold-{part}-reference{number}.lex" for number in range(3)]
    refs = read_parallel(ParallelFiles("", "", files))
    hyps = (folder / "hyps" / f"{system}_{part}.txt").read_text().splitlines()
    edits, length = corpus_ter([hyp.split() for hyp in hyps], [[ref.split() for ref in group] for group in refs])
    assert edits == float(expected.split("/")[0])
    assert length == pytest.approx(float(expected.split("/")[1]))
