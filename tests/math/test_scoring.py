"""Scores of texts and tags: values worked out by hand, and the official scores of real systems."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolora.problems.scoring import score
from autolora.problems.scoring.bleu import bleu_moses, bleu_mteval
from autolora.problems.scoring.e2e import score_e2e
from autolora.problems.scoring.files import read_grouped
from autolora.problems.scoring.java import find_java
from autolora.problems.scoring.meteor import Meteor
from autolora.problems.scoring.ner import score_ner
from autolora.problems.scoring.ner_files import read_ner
from autolora.problems.scoring.ngrams import clipped_matches, mteval_tokens
from autolora.problems.scoring.nist import nist
from autolora.problems.scoring.ptb import ptb_tokenize
from autolora.problems.scoring.ter import corpus_ter, ter_edits
from autolora.problems.scoring.webnlg import clean_hypothesis, clean_reference, score_webnlg
from autolora.problems.scoring.webnlg_files import read_webnlg
from tests.helpers.places import SHARED
from tests.math.helpers.real_systems import e2e_expected, e2e_systems

words = st.lists(st.sampled_from("abcde"), max_size=12)


@pytest.fixture(scope="module")
def metric_refs() -> Path:
    """Folder of real systems' outputs; the test is skipped without it."""
    folder = SHARED / "metric_refs"
    if not folder.is_dir():
        pytest.skip(f"no real system outputs at {folder}")
    return folder


@pytest.fixture(scope="module")
def java() -> str:
    """Path of Java; the test is skipped without it."""
    path = find_java()
    if path is None:
        pytest.skip("needs Java (Debian package default-jre-headless)")
    return path


class TestBleu:
    def test_mteval_by_hand(self) -> None:
        """Matches 4/5, 3/4, 2/3, 1/2 and equal lengths; then four of eight words, all right."""
        assert bleu_mteval(["a b c d e"], [["A B C D f"]]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
        assert bleu_mteval(["a b c d"], [["a b c d e f g h"]]) == pytest.approx(math.exp(1 - 8 / 4))

    def test_mteval_of_short_and_empty_lines(self) -> None:
        """A line of one word adds 1, 0, 0, 0 to the totals, an empty one is one wrong word; without any match of four
        words the script has a lower bound."""
        assert bleu_mteval(["a b c d e", "g"], [["a b c d e"], ["f"]]) == pytest.approx((5 / 6) ** 0.25)
        assert bleu_mteval(["a b c d e", ""], [["a b c d e"], ["f"]]) == pytest.approx((5 / 6) ** 0.25)
        assert bleu_mteval(["a b c d"], [["a b c e"]]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1e-15) ** 0.25)

    def test_moses_by_hand(self) -> None:
        four, five = list("abcd"), list("abcde")
        assert bleu_moses([five], [[list("abcdf")]]) == pytest.approx(100 * 0.2**0.25)
        assert bleu_moses([four], [[five]]) == pytest.approx(100 * math.exp(1 - 5 / 4))
        assert bleu_moses([["a", "b", "c"]], [[["a", "b", "c"]]]) == 0, "no sequence of four words"

    def test_the_nearest_reference_length_counts_and_a_missing_reference_has_length_0(self) -> None:
        four, five = list("abcd"), list("abcde")
        assert bleu_moses([four], [[list("abcdef"), list("ab"), list("abcdefghi")]]) == pytest.approx(100)
        assert bleu_moses([five], [[list("abcdef"), list("ab")]]) == pytest.approx(100 * math.exp(1 - 6 / 5))
        assert bleu_moses([four], [[list("abcdefghi"), []]]) == pytest.approx(100)

    def test_tokens_and_clipped_matches(self) -> None:
        assert " ".join(mteval_tokens("£20-25, i.e. 3.5% of 1,000")) == "£20 - 25 , i . e . 3.5 % of 1,000"
        assert mteval_tokens("&quot;It's&quot; well-known.") == ['"', "it's", '"', "well-known", "."]
        refs = [["the", "cat"], ["the", "the", "dog"]]
        assert clipped_matches(["the", "the", "the", "cat"], refs, 1) == {("the",): 2, ("cat",): 1}


class TestNist:
    def test_by_hand(self) -> None:
        """References "a b" and "a c": a carries log2(4/2), b log2(4/1), "a b" log2(2/1) bits; no longer n-grams."""
        assert nist(["A b"], [["a b", "a c"]]) == pytest.approx((1 + 2) / 2 + 1 / 1)
        assert nist([""], [["a b c"]]) == 0

    def test_two_thirds_of_the_mean_length_cost_half(self) -> None:
        """Two words, references of two and of four; each word has log2(6) bits."""
        assert nist(["a b"], [["a b", "c d e f"]]) == pytest.approx(0.5 * math.log2(6))

    def test_n_grams_of_five_words_count(self) -> None:
        """Of two references that differ in the last word, "e" and all that end with it carry a bit more than the words
        before them: 1 of 4 pairs, 1 of 3 triples, 1 of 2 fours, and the one of five."""
        single = (4 * math.log2(10 / 2) + math.log2(10)) / 5
        expected = single + 1 / 4 + 1 / 3 + 1 / 2 + 1
        assert nist(["a b c d e"], [["a b c d e", "a b c d f"]]) == pytest.approx(expected)


class TestTer:
    @pytest.mark.parametrize(
        ("hyp", "ref", "edits"),
        [
            ("a b c", "a x c", 1), ("a b", "a b c d", 2), ("c d a b", "a b c d", 1), ("c a b x", "a b c d", 2),
            ("", "a b c", 3), ("a b", "", 2),
        ],
    )  # fmt: skip
    def test_by_hand(self, hyp: str, ref: str, edits: int) -> None:
        assert ter_edits(hyp.split(), ref.split()) == edits

    def test_ten_words_move_together_over_fifty_at_most(self) -> None:
        middle = [str(number) for number in range(60)]
        assert [ter_edits(["x", *middle[:n]], [*middle[:n], "x"]) for n in (40, 60)] == [1, 2]
        for together, edits in ((10, 1), (11, 2)):
            moved, others = [f"a{number}" for number in range(together)], middle[:20]
            assert ter_edits([*moved, *others], [*others, *moved]) == edits

    def test_a_corpus_takes_the_best_reference_and_the_mean_length(self) -> None:
        found = corpus_ter([["a", "b"], ["c"]], [[["a", "b"], ["x", "y", "z"]], [["d"]]])
        assert found == (0 + 1, 2.5 + 1)

    @given(words, words)
    def test_never_more_than_the_edit_distance(self, hyp: list[str], ref: list[str]) -> None:
        row = list(range(len(ref) + 1))
        for i, a in enumerate(hyp, 1):
            row, last = [i], row
            for j, b in enumerate(ref, 1):
                row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
        assert abs(len(hyp) - len(ref)) <= ter_edits(hyp, ref) <= row[-1]


class TestE2E:
    def test_some_metrics_need_no_java(self) -> None:
        scores = score_e2e(["a b c d"], [["a b c d", "x"]], ["NIST", "BLEU"])
        assert list(scores) == ["BLEU", "NIST"]
        assert scores["BLEU"] == pytest.approx(1)

    @pytest.mark.trains
    @pytest.mark.usefixtures("java")
    def test_rouge_l_cider_and_the_treebanks_tokens_by_hand(self) -> None:
        """Longest common subsequence 3 of 4 and 6 tokens without the full stop, beta 1.2. Words that every item has
        weigh nothing; equal rare texts score 10."""
        precision, recall, beta = 3 / 4, 3 / 6, 1.2
        expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
        found = score_e2e(["The cat sat here."], [["the black cat then sat down", "dog"]], ["ROUGE_L"])["ROUGE_L"]
        assert found == pytest.approx(expected)
        assert score_e2e(["a b c d"], [["a b c d"]], ["CIDEr"])["CIDEr"] == 0
        two = ["alpha beta gamma delta", "one two three four"]
        assert score_e2e(two, [[text] for text in two], ["CIDEr"])["CIDEr"] == pytest.approx(10)
        assert ptb_tokenize(["", "It's \"nice\" (cheap), isn't it?"]) == ["", "it 's nice -lrb- cheap -rrb- is n't it"]

    @pytest.mark.slow
    @pytest.mark.usefixtures("java")
    def test_meteor_of_odd_texts(self) -> None:
        """Separators and line ends inside a text must not shift what its process takes for what."""
        with Meteor() as meteor:
            assert meteor.corpus([meteor.segment("", ["the cat"])]) == 0
            odd = meteor.segment("the ||| cat\tsat\non\rthe mat", ["x ||| y", "the cat sat on the mat"])
            assert meteor.corpus([odd]) == pytest.approx(1)
            assert meteor.corpus([meteor.segment("naïve café 北京", ["naïve café 北京"])]) == pytest.approx(1)

    @pytest.mark.slow
    @pytest.mark.usefixtures("java")
    @pytest.mark.parametrize(("hyp", "ref"), e2e_systems())
    def test_real_systems(self, metric_refs: Path, hyp: str, ref: str) -> None:
        """The published figures, to the digits that were published (four); of BLEU and NIST all digits are known."""
        folder = metric_refs / "e2e_metrics"
        expected = e2e_expected(folder, hyp)
        scores = score_e2e(*read_grouped(folder / hyp, folder / ref))
        assert scores.keys() == expected.keys()
        for name, value in expected.items():
            assert scores[name] == pytest.approx(value, abs=1e-6 if name in ("BLEU", "NIST") else 1e-4), name


class TestWebNLG:
    def test_text_becomes_the_challenge_form(self) -> None:
        """Outputs are split after, references before they become ASCII, as in the challenge's scripts."""
        raw, clean = "Adolfo Suárez Madrid–Barajas Airport.", "adolfo suarez madrid - barajas airport ."
        assert clean_hypothesis(raw) == clean_reference(raw) == clean
        assert (clean_hypothesis("a…b"), clean_reference("a…b")) == ("a . . . b", "a ... b")

    def test_three_references_count_and_missing_ones_are_left_out_for_ter(self) -> None:
        assert score_webnlg(["a b c d e"], [["x", "y", "z", "a b c d e"]], ["TER"])["TER"] == 5
        several = score_webnlg(["a b c d", "e f g h"], [["a b c d i j k l m"], ["e f g h", "z"]], ["BLEU", "TER"])
        assert several["BLEU"] == pytest.approx(100), "the missing reference has length 0, which is the nearest"
        assert several["TER"] == pytest.approx((5 + 0) / (9 + 2.5))

    def test_seen_and_unseen_categories(self) -> None:
        hyps, refs = ["a b c d", "x", "e f g h"], [["a b c d"], ["y"], ["e f g h"]]
        scores = score_webnlg(hyps, refs, ["BLEU", "TER"], ["Airport", "Politician", "seen"])
        assert list(scores) == ["BLEU", "TER", "BLEU.seen", "TER.seen", "BLEU.unseen", "TER.unseen"]
        assert scores["BLEU.seen"] == pytest.approx(100)
        assert (scores["TER.seen"], scores["TER.unseen"]) == (0, 1)

    @pytest.mark.slow
    @pytest.mark.parametrize(("system", "metrics"), [("UPF-TALN", ["BLEU", "TER"]), ("GKB_Unimelb", ["METEOR"])])
    def test_real_systems(self, metric_refs: Path, request: Any, system: str, metrics: list[str]) -> None:
        """All, seen and unseen categories, to all digits that the challenge published (two of BLEU). TER is all edits
        over the mean reference lengths: with its digits right, so is every edit that tercom counts."""
        if "METEOR" in metrics:
            request.getfixturevalue("java")
        folder = metric_refs / "webnlg2017"
        official = json.loads((folder / "expected.json").read_text())["expected"]
        texts = read_webnlg(folder / "hyps" / f"{system}_all-cat.txt", folder / "refs")
        scores = score_webnlg(texts.hyps, texts.refs, metrics, texts.categories)
        for part, suffix in (("all-cat", ""), ("old-cat", ".seen"), ("new-cat", ".unseen")):
            found = official[part][system]
            bleu = re.match(r"BLEU = ([\d.]+),", found["multi_bleu_lc_3ref"][0])
            assert bleu is not None
            expected = {"BLEU": bleu[1], "TER": found["ter_3ref"][0][0], "METEOR": found["meteor15_norm_3ref"][0]}
            for name in metrics:
                close = 0.00501 if name == "BLEU" else 1e-9
                assert scores[name + suffix] == pytest.approx(float(expected[name]), abs=close), name + suffix


class TestEntities:
    def test_by_hand(self) -> None:
        """Two of three predicted entities are right, of four; the wrong one has the right span but another type."""
        gold = [["B-DNA", "I-DNA", "O", "B-RNA"], ["B-DNA", "O", "B-protein"]]
        scores = score_ner(gold, [["B-DNA", "I-DNA", "O", "B-protein"], ["B-DNA", "O", "O"]])
        assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx([2 / 3, 2 / 4, 4 / 7])
        assert [scores[f"{kind}.f1"] for kind in ("DNA", "RNA", "protein")] == [1, 0, 0]

    def test_boundaries_count_an_entity_may_begin_with_i_and_ends_with_its_sentence(self) -> None:
        assert score_ner([["B-DNA", "I-DNA"]], [["B-DNA", "O"]])["f1"] == 0
        assert score_ner([["B-DNA", "I-DNA"]], [["I-DNA", "I-DNA"]])["f1"] == 1
        assert score_ner([["B-DNA"], ["O"]], [["B-DNA"], ["I-DNA"]])["precision"] == 0.5
        assert score_ner([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0}

    def test_the_sample_of_conlleval(self, metric_refs: Path, tmp_path: Path) -> None:
        folder = metric_refs / "seqeval"
        rows = [line.split() for line in (folder / "ground_truth.txt").read_text().splitlines()]
        for name, column in (("ref", 2), ("hyp", 3)):
            (tmp_path / name).write_text("\n".join(f"{row[0]} {row[column]}" if row else "" for row in rows) + "\n")
        scores = score_ner(*read_ner(tmp_path / "hyp", tmp_path / "ref"))
        numbers = r"precision:\s+([\d.]+)%; recall:\s+([\d.]+)%; FB1:\s+([\d.]+)"
        for line in (folder / "ground_truth.conlleval_output.txt").read_text().splitlines()[1:]:
            prefix = "" if line.startswith("accuracy") else f"{line.split(':')[0].strip()}."
            found = re.search(numbers, line)
            assert found is not None
            for name, value in zip(("precision", "recall", "f1"), found.groups(), strict=True):
                assert 100 * scores[prefix + name] == pytest.approx(float(value), abs=0.005)


def test_scores_of_files_are_returned_and_written(tmp_path: Path) -> None:
    for name, text in {"hyp": "a B-DNA\nb O\n", "ref": "a B-DNA\nb B-RNA\n"}.items():
        (tmp_path / name).write_text(text)
    scores = score("ner", str(tmp_path / "hyp"), str(tmp_path / "ref"), str(tmp_path / "out.json"))
    assert (scores["precision"], scores["recall"]) == (1, 0.5)
    assert json.loads((tmp_path / "out.json").read_text()) == scores
