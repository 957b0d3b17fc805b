"""The scores of named entities: by hand, in corner cases, and against seqeval and conlleval."""

import json
import re

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.ner import score_ner
from autolora.problems.scoring.ner_files import read_ner


def test_by_hand():
    """Two of three predicted entities are right, of four; the wrong one has the right span but another type."""
    gold = [["B-DNA", "I-DNA", "O", "B-RNA"], ["B-DNA", "O", "B-protein"]]
    pred = [["B-DNA", "I-DNA", "O", "B-protein"], ["B-DNA", "O", "O"]]
    scores = score_ner(gold, pred)
    assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx([2 / 3, 2 / 4, 4 / 7])
    assert [scores[f"DNA.{name}"] for name in ("precision", "recall", "f1")] == [1, 1, 1]
    assert [scores[f"{kind}.f1"] for kind in ("RNA", "protein")] == [0, 0]
    assert list(scores)[3:6] == ["DNA.precision", "DNA.recall", "DNA.f1"]


def test_boundaries_count():
    assert score_ner([["B-DNA", "I-DNA"]], [["B-DNA", "O"]])["f1"] == 0


def test_an_entity_may_begin_with_i():
    """Default mode, like conlleval: strict IOB2 would give 0."""
    assert score_ner([["B-DNA", "I-DNA"]], [["I-DNA", "I-DNA"]])["f1"] == 1


def test_entities_do_not_cross_sentences():
    assert score_ner([["B-DNA"], ["O"]], [["B-DNA"], ["I-DNA"]])["precision"] == 0.5


def test_nothing_to_find_and_nothing_found(recwarn):
    assert score_ner([["O", "O"]], [["O", "O"]]) == {"precision": 0, "recall": 0, "f1": 0}
    assert score_ner([["B-DNA"]], [["O"]])["DNA.recall"] == 0
    assert not recwarn.list


@pytest.mark.parametrize(
    ("gold", "pred", "message"),
    [
        ([["O"]], [["O"], ["O"]], "1 sentences with gold tags, but 2"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2 has 2 gold tags, but 1"),
        ([], [], "no sentences"),
    ],
)
def test_what_does_not_pair_up(gold, pred, message):
    with pytest.raises(UserError, match=message):
        score_ner(gold, pred)


def test_examples_of_seqeval(metric_refs):
    """Its documented results in default mode, rounded to two digits there."""
    rows = [json.loads(line) for line in (metric_refs / "seqeval" / "examples.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["mode"] == "default" and "y_pred" in row]
    assert len(rows) >= 3
    for row in rows:
        scores = score_ner(row["y_true"], row["y_pred"])
        report = row.get("report_p_r_f1_support", {})
        expected = {"f1": row["f1"]} if "f1" in row else {}
        for name, values in report.items():
            prefix = {"micro avg": ""}.get(name, f"{name}.")
            expected |= {
                prefix + key: value for key, value in zip(("precision", "recall", "f1"), values, strict=False)
            }
        for name, value in expected.items():
            if " avg" not in name:
                assert scores[name] == pytest.approx(value, abs=0.005), row["name"]


@pytest.mark.parametrize("file", ["ground_truth.txt", "ground_truth_inv.txt"])
def test_sample_of_conlleval(metric_refs, tmp_path, file):
    """What conlleval.pl prints for the sample, overall and per type; the second file has its tags as TYPE-B."""
    folder = metric_refs / "seqeval"
    rows = [line.split() for line in (folder / file).read_text().splitlines()]
    for name, column in (("ref", 2), ("hyp", 3)):
        flipped = [[row[0], re.sub(r"(.+)-([BI])$", r"\2-\1", row[column])] if row else [] for row in rows]
        (tmp_path / name).write_text("\n".join(" ".join(row) for row in flipped) + "\n")
    scores = score_ner(*read_ner(tmp_path / "hyp", tmp_path / "ref"))
    numbers = r"precision:\s+([\d.]+)%; recall:\s+([\d.]+)%; FB1:\s+([\d.]+)"
    for line in (folder / "ground_truth.conlleval_output.txt").read_text().splitlines()[1:]:
        prefix = "" if line.startswith("accuracy") else f"{line.split(':')[0].strip()}."
        found = re.search(numbers, line)
        assert found is not None
        for name, value in zip(("precision", "recall", "f1"), found.groups(), strict=True):
            assert 100 * scores[prefix + name] == pytest.approx(float(value), abs=0.005)
