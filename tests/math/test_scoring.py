"""Scores of texts and tags: values worked out by hand, and the official scores of real systems."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring import read_tags, require, score_e2e, score_ner, score_webnlg
from autolora.problems.scoring.__main__ import main, read_references
from autolora.problems.scoring.texts import clean_hypothesis, clean_reference, nist
from tests.helpers.paths import SHARED

E2E = (
    "baseline-output devel-conc",
    "ukp_dev_seed1 dev_refs",
    "ukp_dev_seed10 dev_refs",
    "ukp_dev_seed11 dev_refs",
)


@pytest.fixture(scope="module")
def metric_refs() -> Path:
    """Folder of real systems' outputs; the test is skipped without it."""
    folder = SHARED / "metric_refs"
    if not folder.is_dir():
        pytest.skip(f"no real system outputs at {folder}")
    return folder


@pytest.fixture(scope="module")
def java() -> None:
    try:
        require("e2e", ["METEOR"])
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ascii_tables() -> None:
    pytest.importorskip("text_unidecode")


def bleu(hyps: list[str], refs: list[list[str]]) -> float:
    return score_e2e(hyps, refs, ["BLEU"])["BLEU"]


def bleu_webnlg(hyps: list[str], refs: list[list[str]]) -> float:
    return score_webnlg(hyps, refs, ["BLEU"])["BLEU"]


def ter(hyp: str, *refs: str) -> float:
    return score_webnlg([hyp], [list(refs)], ["TER"])["TER"]


class TestE2E:
    def test_bleu_by_hand(self) -> None:
        """Matches 4/5, 3/4, 2/3, 1/2 and equal lengths, whatever the case; then four of eight
        words, all right; the script's lower bound, as no sequence of four is right."""
        assert bleu(["a b c d e"], [["A B C D f"]]) == pytest.approx(
            (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
        )
        assert bleu(["a b c d"], [["a b c d e f g h"]]) == pytest.approx(math.exp(1 - 8 / 4))
        assert bleu(["a b c d"], [["a b c e"]]) == pytest.approx(
            (3 / 4 * 2 / 3 * 1 / 2 * 1e-15) ** 0.25
        )

    def test_the_tokens_are_those_of_mteval(self) -> None:
        assert bleu(
            ["£20-25, i.e. 3.5% of 1,000"], [["£20 - 25 , i . e . 3.5 % of 1,000"]]
        ) == pytest.approx(1)
        assert nist(['"It\'s" well-known.'], [["&quot; it's &quot; well-known ."]]) > 0

    def test_nist_by_hand(self) -> None:
        """References "a b" and "a c": a carries log2(4/2), b log2(4/1), "a b" log2(2/1) bits; no
        longer n-grams."""
        assert nist(["A b"], [["a b", "a c"]]) == pytest.approx((1 + 2) / 2 + 1 / 1)
        assert nist([""], [["a b c"]]) == 0

    def test_two_thirds_of_the_mean_length_cost_half(self) -> None:
        """Two words, references of two and of four; each word has log2(6) bits."""
        assert nist(["a b"], [["a b", "c d e f"]]) == pytest.approx(0.5 * math.log2(6))

    def test_a_match_counts_as_often_as_in_one_reference(self) -> None:
        """Twice "a" in one of five words of two references, three times in the output: 2 of 3,
        log2(5/3) bits each."""
        assert nist(["a a a"], [["a b", "a c a"]]) == pytest.approx(2 * math.log2(5 / 3) / 3)

    def test_n_grams_of_five_words_count(self) -> None:
        """Of two references that differ in the last word, "e" and all that end with it carry a bit
        more than the words before them: 1 of 4 pairs, 1 of 3 triples, 1 of 2 fours, and the one of
        five."""
        single = (4 * math.log2(10 / 2) + math.log2(10)) / 5
        expected = single + 1 / 4 + 1 / 3 + 1 / 2 + 1
        assert nist(["a b c d e"], [["a b c d e", "a b c d f"]]) == pytest.approx(expected)

    @pytest.mark.trains
    @pytest.mark.usefixtures("java")
    def test_rouge_l_and_cider_by_hand_on_the_treebanks_tokens(self) -> None:
        """Longest common subsequence 3 of 4 and 6 tokens without the full stop, beta 1.2; a line
        end inside of a text shifts nothing. Equal rare texts score 10."""
        precision = 3 / 4
        recall = 3 / 6
        beta = 1.2
        expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
        refs = [["the black cat\u2028then sat down", "dog"], ["It's\rcheap"]]
        found = score_e2e(["The cat sat here.", "it's (cheap)"], refs, ["ROUGE_L"])["ROUGE_L"]
        cheap = (1 + beta**2) * (3 / 5) / (1 + beta**2 * 3 / 5)  # it 's -lrb- cheap -rrb-
        assert found == pytest.approx((expected + cheap) / 2)
        two = ["alpha beta gamma delta", "one two three four"]
        assert score_e2e(two, [[text] for text in two], ["CIDEr"])["CIDEr"] == pytest.approx(10)

    @pytest.mark.slow
    @pytest.mark.usefixtures("java")
    @pytest.mark.parametrize("system", E2E)
    def test_real_systems(self, metric_refs: Path, tmp_path: Path, system: str) -> None:
        """The published figures, to the digits that were published (four); of BLEU and NIST all
        digits are known."""
        hyp, ref = (metric_refs / "e2e_metrics" / f"{name}.txt" for name in system.split())
        assert (
            main(
                ["e2e", "--hyp", str(hyp), "--ref", str(ref), "--json", str(tmp_path / "out.json")]
            )
            == 0
        )
        scores = json.loads((tmp_path / "out.json").read_text())
        assert list(scores) == ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"]
        expected: Any = json.loads((metric_refs / "e2e_metrics" / "expected.json").read_text())
        found = expected["example-inputs"]["scores"]
        for run in expected["ukplab_dev"]["runs"]:
            if run["hyp"] == hyp.name:
                found = run["scores_csv_row"] | run["pymteval_here"]
        names = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "cider": "CIDEr"}
        for name, value in found.items():
            close = 1e-6 if name in ("bleu", "nist") else 1e-4
            assert scores[names.get(name, "ROUGE_L")] == pytest.approx(value, abs=close), name


@pytest.mark.usefixtures("ascii_tables")
class TestWebNLG:
    def test_text_becomes_the_challenge_form(self) -> None:
        """Outputs are split after, references before they become ASCII, as in the challenge's
        scripts."""
        raw = "Adolfo Suárez Madrid–Barajas Airport."
        clean = "adolfo suarez madrid - barajas airport ."
        assert clean_hypothesis(raw) == clean_reference(raw) == clean
        assert (clean_hypothesis("a…b"), clean_reference("a…b")) == ("a . . . b", "a ... b")

    def test_bleu_by_hand(self) -> None:
        """Not smoothed: 0 without a right sequence of four words. A missing reference has length
        0."""
        assert bleu_webnlg(["a b c d e"], [["a b c d f"]]) == pytest.approx(100 * 0.2**0.25)
        assert bleu_webnlg(["a b c d"], [["a b c d e"]]) == pytest.approx(100 * math.exp(1 - 5 / 4))
        assert bleu_webnlg(["a b c"], [["a b c"]]) == bleu_webnlg(["a b c d"], [["a b c e"]]) == 0
        assert bleu_webnlg(["a b c d e"], [["a b c d e f", "a b"]]) == pytest.approx(
            100 * math.exp(1 - 6 / 5)
        )
        two = ["a b c d", "e f g h"]
        assert bleu_webnlg(two, [["a b c d i j k l m"], ["e f g h", "z"]]) == pytest.approx(100)

    def test_ter_by_hand(self) -> None:
        """A substitution, insertions, a shift (one edit); the best of the references over their
        mean length; three references count, and missing ones are left out."""
        assert [ter("a b c", "a x c"), ter("a b", "a b c d"), ter("c d a b", "a b c d")] == [
            1 / 3,
            2 / 4,
            1 / 4,
        ]
        assert ter("a b", "a b", "x y z") == 0
        assert ter("a x", "a b", "x y z") == 1 / 2.5
        assert ter("a b c d e", "x", "y", "z", "a b c d e") == 5
        found = score_webnlg(
            ["a b c d", "e f g h"], [["a b c d i j k l m"], ["e f g h", "z"]], ["TER"]
        )
        assert found["TER"] == pytest.approx((5 + 0) / (9 + 2.5)), (
            "over the corpus, not a mean of items"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("system", ["UPF-TALN", "GKB_Unimelb"])
    @pytest.mark.parametrize("part", ["old-cat", "new-cat"])
    @pytest.mark.parametrize(
        "metric", ["BLEU", "METEOR", pytest.param("TER", marks=pytest.mark.soak)]
    )
    def test_real_systems(
        self, metric_refs: Path, request: Any, system: str, part: str, metric: str
    ) -> None:
        """To all digits that the challenge published (two of BLEU); TER within 0.4 %, in
        minutes."""
        if metric == "METEOR":
            request.getfixturevalue("java")
        folder = metric_refs / "webnlg2017"
        found = json.loads((folder / "expected.json").read_text())["expected"][part][system]
        hyps = (folder / "hyps" / f"{system}_{part}.txt").read_text().splitlines()
        refs = read_references(
            sorted((folder / "refs").glob(f"gold-{part}-reference?.lex")), len(hyps)
        )
        score = score_webnlg(hyps, refs, [metric])[metric]
        if metric == "BLEU":
            assert (
                f"{score:.2f}" == re.findall(r"BLEU = ([\d.]+),", found["multi_bleu_lc_3ref"][0])[0]
            )
        elif metric == "METEOR":
            assert score == pytest.approx(float(found["meteor15_norm_3ref"][0]), abs=1e-9)
        else:
            assert score == pytest.approx(float(found["ter_3ref"][0][0]), rel=0.004)


class TestEntities:
    def test_by_hand(self) -> None:
        """Two of three predicted entities are right, of four; the wrong one has the right span but
        another type."""
        gold = [["B-DNA", "I-DNA", "O", "B-RNA"], ["B-DNA", "O", "B-protein"]]
        scores = score_ner(gold, [["B-DNA", "I-DNA", "O", "B-protein"], ["B-DNA", "O", "O"]])
        assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx(
            [2 / 3, 2 / 4, 4 / 7]
        )
        assert [scores[f"{kind}.f1"] for kind in ("DNA", "RNA", "protein")] == [1, 0, 0]

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_boundaries_count_an_entity_may_begin_with_i_and_ends_with_its_sentence(self) -> None:
        assert score_ner([["B-DNA", "I-DNA"]], [["B-DNA", "O"]])["f1"] == 0
        assert score_ner([["B-DNA", "I-DNA"]], [["I-DNA", "I-DNA"]])["f1"] == 1
        assert score_ner([["B-DNA"], ["O"]], [["B-DNA"], ["I-DNA"]])["precision"] == 0.5
        assert score_ner([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0}

    def test_the_sample_of_conlleval(self, metric_refs: Path) -> None:
        folder = metric_refs / "seqeval"
        words, pred = read_tags(folder / "ground_truth.txt")
        rows = [line.split() for line in (folder / "ground_truth.txt").read_text().splitlines()]
        tags = iter([row[2] for row in rows if row])
        scores = score_ner([[next(tags) for _ in sentence] for sentence in words], pred)
        numbers = r"precision:\s+([\d.]+)%; recall:\s+([\d.]+)%; FB1:\s+([\d.]+)"
        for line in (folder / "ground_truth.conlleval_output.txt").read_text().splitlines()[1:]:
            prefix = "" if line.startswith("accuracy") else f"{line.split(':')[0].strip()}."
            found = re.search(numbers, line)
            assert found is not None
            for name, value in zip(("precision", "recall", "f1"), found.groups(), strict=True):
                assert f"{100 * scores[prefix + name]:.2f}" == value


class TestFiles:
    def test_scores_are_printed_and_written(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hyp, ref, out = (tmp_path / name for name in ("hyp", "ref", "out.json"))
        hyp.write_text("a\tB-DNA\tB-DNA\nb O O\n\nc O O\n")
        ref.write_text("###MEDLINE:95369245\n\na B-DNA\nb B-RNA\n\nc O\n")
        given = ["ner", "--hyp", str(hyp), "--ref", str(ref)]
        assert main([*given, "--json", str(out)]) == 0
        scores = json.loads(out.read_text())
        assert (scores["precision"], scores["recall"]) == (1, 0.5)
        assert "RNA.f1               0.0000" in capsys.readouterr().out
        ref.write_text("a B-DNA\nx B-RNA\n\nc O\n")
        assert main(given) == 2
        assert "not the same words" in capsys.readouterr().err

    def test_references_in_groups_by_lines_and_in_parallel_files(self, tmp_path: Path) -> None:
        one = tmp_path / "one"
        two = tmp_path / "two"
        one.write_text("a\nb\n\nc\u2028c\n\n", encoding="utf-8")
        assert read_references([one], 2) == [["a", "b"], ["c\u2028c"]]
        one.write_text("a\nb\n")
        assert (read_references([one], 2), read_references([one], 1)) == (
            [["a"], ["b"]],
            [["a", "b"]],
        )
        two.write_text("x\n\n")
        assert read_references([one, two], 2) == [["a", "x"], ["b"]]
