"""The scores of the WebNLG challenge: texts, references and categories, and real systems."""

import json
import re

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.webnlg import SEEN, UNSEEN, clean_hypothesis, clean_reference, is_of_2017, score_webnlg
from autolora.problems.scoring.webnlg_files import read_webnlg

MORE = ["GKB_Unimelb", "Baseline"]


def official(folder, part, system):
    """The challenge's scores of one system; METEOR of the baseline was not kept."""
    found = json.loads((folder / "expected.json").read_text())["expected"][part][system]
    bleu = re.match(r"BLEU = ([\d.]+),", found["multi_bleu_lc_3ref"][0])
    assert bleu is not None
    scores = {"BLEU": float(bleu[1]), "TER": float(found["ter_3ref"][0][0])}
    if "meteor15_norm_3ref" in found:
        scores["METEOR"] = float(found["meteor15_norm_3ref"][0])
    return scores


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Adolfo Suárez Madrid–Barajas Airport.", "adolfo suarez madrid - barajas airport ."),
        ("It's  in Abilene,\tTexas (USA)", "it ' s in abilene , texas ( usa )"),
        ("Øresund; Ștefan; Ağrı; ə", "oresund ; stefan ; agri ; @"),
        ("", ""),
    ],
)
def test_text_becomes_the_challenge_form(raw, clean):
    assert clean_hypothesis(raw) == clean_reference(raw) == clean
    if "@" not in clean:
        assert clean_hypothesis(clean) == clean_reference(clean) == clean


def test_outputs_are_split_after_and_references_before_they_become_ascii():
    """As in the challenge's scripts; it shows where one character becomes several."""
    assert clean_hypothesis("a…b") == "a . . . b"
    assert clean_reference("a…b") == "a ... b"


def test_raw_text_scores_like_clean_text():
    hyps, refs = ["Alan Bean, born in Wheeler."], [["Alan Bean was born in Wheeler, Texas.", ""]]
    clean = [clean_reference(ref) for ref in refs[0]]
    metrics = ["BLEU", "TER"]
    assert score_webnlg(hyps, refs, metrics) == score_webnlg([clean_hypothesis(hyps[0])], [clean], metrics)


def test_only_three_references_count():
    hyps, best = ["a b c d e"], "a b c d e"
    assert score_webnlg(hyps, [["x", "y", "z", best]], ["TER"])["TER"] == 5
    assert score_webnlg(hyps, [["x", "y", best]], ["TER"])["TER"] == 0


def test_missing_references():
    """For BLEU a reference of length 0, as long as another item has that many; left out for TER."""
    hyps = ["a b c d", "e f g h"]
    several = score_webnlg(hyps, [["a b c d i j k l m"], ["e f g h", "z"]], ["BLEU", "TER"])
    assert several["BLEU"] == pytest.approx(100)  # lengths 0 and 4 or 1 are the nearest
    assert several["TER"] == pytest.approx((5 + 0) / (9 + 2.5))
    assert score_webnlg(hyps, [["a b c d i j k l m"], ["e f g h"]], ["BLEU"])["BLEU"] < 60


def test_seen_and_unseen_categories():
    hyps, refs = ["a b c d", "x", "e f g h"], [["a b c d"], ["y"], ["e f g h"]]
    scores = score_webnlg(hyps, refs, ["BLEU", "TER"], ["Airport", "Politician", "seen"])
    assert list(scores) == ["BLEU", "TER", "BLEU.seen", "TER.seen", "BLEU.unseen", "TER.unseen"]
    assert scores["BLEU.seen"] == pytest.approx(100)
    assert (scores["TER.seen"], scores["TER.unseen"]) == (0, 1)
    assert list(score_webnlg(hyps, refs, ["TER"], ["City"] * 3)) == ["TER", "TER.seen"]
    assert len(SEEN) == 10
    assert len(UNSEEN) == 5


@pytest.mark.parametrize(
    ("trained", "evaluated", "answer"),
    [
        (set(SEEN), {*SEEN, *UNSEEN}, True),
        ({"Food"}, {"Artist"}, True),
        ({"Food", "Artist"}, {"Food", "Artist"}, False),
        ({"Food"}, {"Food", "Film"}, False),
        ({""}, {"Food"}, False),
    ],
)
def test_only_2017_has_its_seen_and_unseen_categories(trained, evaluated, answer):
    assert is_of_2017(trained, evaluated) is answer


@pytest.mark.parametrize(
    ("refs", "categories", "message"),
    [
        ([["a"], ["", " "]], None, "item 2 has only empty references"),
        ([["a"]], None, "2 hypotheses, but references for 1 items"),
        ([["a"], ["b"]], ["Airport"], "2 hypotheses, but categories for 1 items"),
        ([["a"], ["b"]], ["Airport", "Planet"], "item 2 has unknown category 'Planet'; allowed: Airport"),
    ],
)
def test_what_is_not_allowed(refs, categories, message):
    with pytest.raises(UserError, match=message):
        score_webnlg(["a", "b"], refs, ["BLEU"], categories)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["all-cat", "old-cat", "new-cat"])
def test_bleu_of_the_challenges_own_files_of_each_part(metric_refs, part):
    """The other systems are compared below, each part by the categories of one file."""
    folder, system = metric_refs / "webnlg2017", "GKB_Unimelb"
    texts = read_webnlg(folder / "hyps" / f"{system}_{part}.txt", folder / "refs" / f"gold-{part}-reference")
    found = score_webnlg(texts.hyps, texts.refs, ["BLEU"])["BLEU"]
    assert found == pytest.approx(official(folder, part, system)["BLEU"], abs=0.00501)  # promised: 0.1


def compare(folder, system, metrics):
    """Holds the scores on all, seen and unseen categories at once against the challenge's, to all its digits."""
    texts = read_webnlg(folder / "hyps" / f"{system}_all-cat.txt", folder / "refs")
    scores = score_webnlg(texts.hyps, texts.refs, metrics, texts.categories)
    for part, suffix in (("all-cat", ""), ("old-cat", ".seen"), ("new-cat", ".unseen")):
        for name in metrics:
            close = 0.00501 if name == "BLEU" else 1e-9  # BLEU is published with two digits
            assert scores[name + suffix] == pytest.approx(official(folder, part, system)[name], abs=close), (
                name + suffix
            )


@pytest.mark.slow
@pytest.mark.parametrize("system", ["UPF-TALN", *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)])
def test_real_systems(metric_refs, system):
    """TER is all edits over the mean reference lengths: with its digits right, so is every edit that tercom counts."""
    compare(metric_refs / "webnlg2017", system, ["BLEU", "TER"])


@pytest.mark.slow
@pytest.mark.usefixtures("java")
@pytest.mark.parametrize("system", ["GKB_Unimelb", pytest.param("UPF-TALN", marks=pytest.mark.soak)])
def test_meteor_of_real_systems(metric_refs, system):
    compare(metric_refs / "webnlg2017", system, ["METEOR"])
