"""verdict.json: what stands in it for a decided verdict, an undecided one, and one for which nothing was trained."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.configs.parser import parse
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.records import read_verdict
from autolora.engine.verdict.arms import Arms, VerdictFolder
from autolora.engine.verdict.record import write_verdict
from autolora.engine.verdict.shown import Shown
from tests.helpers.evidence import evidence_of

ROWS = 40
RECORD = RankRecord(4, (LayerRank("a", 3), LayerRank("b", 1)))


def shown(pairs: int, better: float, **others: int) -> Shown:
    """So many pairs in which the learned ranks are better by so much; LoRA gains 1 nat. `others`: arm -> its pairs."""
    draw = np.random.default_rng(0)
    learned = 1 + draw.normal(0, 0.01, (pairs, ROWS))
    other = learned + better + draw.normal(0, 1e-3, (pairs, ROWS))
    losses = {"learned": learned, "shuffled": other} | {name: other[:count] for name, count in others.items()}
    results = {name: [{"metrics": {"f1": 0.1 * (i + 1)}, "lora_parameters": 100 + i} for i in range(len(found))]
               for name, found in losses.items()}  # fmt: skip
    return Shown(losses, np.ones(ROWS), np.arange(ROWS), np.full((2, ROWS), 2.0), results)


def written(tmp_path: Path, found: Shown | None, *arguments: str, record: RankRecord = RECORD) -> dict[str, Any]:
    """The content of verdict.json, which its reader accepts."""
    config, run = parse(["--name", "a", *arguments]).config, RunFolder(tmp_path / "a")
    write_verdict(found, Arms(config, VerdictFolder(run.verdict), record, {"a": 64, "b": 64}, 0.02), run)
    content: dict[str, Any] = json.loads(run.verdict_summary.read_text())
    assert read_verdict(run.verdict_summary) == content
    return content


def test_a_decided_verdict_is_about_the_pairs_of_the_look_that_decided(tmp_path: Path) -> None:
    """Further pairs, which several workers may have trained meanwhile, change no number."""
    eight = written(tmp_path, shown(8, 0.2))
    more = shown(11, 0.2)
    first = {name: losses[:8] for name, losses in more.losses.items()}
    assert written(tmp_path, more) == written(tmp_path, dataclasses.replace(more, losses=first))
    assert (eight["ending"], eight["pairs"]) == ("matter", 8)
    assert eight["difference"] == pytest.approx(0.2, abs=1e-3)
    assert eight["interval"][0] < eight["difference"] < eight["interval"][1]
    assert eight["gain"] == pytest.approx(1, abs=0.01)
    assert (eight["p"], eight["rows"], eight["metric"]) == (1 / 256, ROWS, "f1")
    assert eight["parameters"] == 256


def test_each_arm_has_its_losses_and_the_difference_to_the_learned_ranks(tmp_path: Path) -> None:
    learned, shuffled, uniform = written(tmp_path, shown(8, 0.2, uniform=1), "--verdict.arms", "[uniform]")["arms"]
    assert [len(arm["losses"]) for arm in (learned, shuffled, uniform)] == [8, 8, 1]
    assert not {"difference", "interval", "p"} & set(learned)
    assert shuffled["difference"] == pytest.approx(np.mean(shuffled["losses"]) - np.mean(learned["losses"]))
    assert shuffled["p"] is None, "that of the shuffle is the verdict's own"
    assert (uniform["interval"], uniform["p"]) == (None, 0.5)
    assert [arm["parameters"] for arm in (learned, uniform)] == [104, 100], "a mean, as those of a shuffle may vary"
    assert learned["scores"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_further_arms_are_noted_as_a_description(tmp_path: Path) -> None:
    """Their p and intervals were those of one test at a number of pairs that was planned."""
    arms = ("--verdict.arms", "[uniform,random]")
    assert written(tmp_path, shown(8, 0.2, uniform=8, random=8), *arms)["notes"][1] == (
        "The interval and p of uniform and random only describe: they are not corrected for several arms, and the "
        "shuffle alone decides when the verdict ends."
    )
    assert "p of uniform only describe" in written(tmp_path, shown(8, 0.2, uniform=1, random=0), *arms)["notes"][1]


def test_an_arm_without_a_finished_training_is_left_out(tmp_path: Path) -> None:
    found = written(tmp_path, shown(8, 0.0, uniform=0), "--verdict.arms", "[uniform]")
    assert not [note for note in found["notes"] if "uniform" in note]
    assert [arm["name"] for arm in found["arms"]] == ["learned", "shuffled"]


def test_one_pair_has_no_interval(tmp_path: Path) -> None:
    found = written(tmp_path, shown(1, 0.2))
    assert (found["ending"], found["pairs"], found["interval"]) == ("undecided", 1, None)
    assert "at least 8 pairs are needed" in found["sentence"]


def test_where_nothing_was_trained_there_are_no_numbers(tmp_path: Path) -> None:
    found = written(tmp_path, None)
    assert (found["ending"], found["pairs"]) == ("undecided", 0)
    assert found["sentence"].startswith("Not tested: no layers of one size have different ranks")
    assert found["recommendation"].startswith("Choose by cost alone: keep these ranks")
    for name in ("difference", "interval", "p", "gain", "gain_standard_error", "enough_rank"):
        assert found[name] is None
    assert not {"arms", "rows", "metric"} & set(found)


def test_where_lora_has_learned_nothing_the_verdict_says_so_and_proposes_no_ranks(tmp_path: Path) -> None:
    layers = tuple(dataclasses.replace(layer, rank=1) for layer in RECORD.layers)
    record = dataclasses.replace(RECORD, layers=layers, rule="shares", evidence=evidence_of(gain=0.0))
    found = written(tmp_path, None, record=record)
    assert (found["ending"], found["pairs"]) == ("undecided", 0)
    assert found["sentence"].startswith("Not tested: LoRA has not learned anything that shows on D_val")
    assert found["recommendation"].startswith("LoRA does nothing for these rows")


def test_few_rows_and_the_rank_that_is_enough_are_notes(tmp_path: Path) -> None:
    assert written(tmp_path, None)["notes"] == []
    (about,) = written(tmp_path, shown(8, 0.2))["notes"]
    assert f"for these {ROWS} held-out rows ({ROWS} inputs) only" in about
    many = dataclasses.replace(
        shown(8, 0.2), losses={name: np.ones((8, 1000)) for name in ("learned", "shuffled")}, head=np.ones((2, 1000)),
        weights=np.ones(1000), sources=np.arange(1000) // 8,
    )  # fmt: skip
    assert "for these 1000 held-out rows (125 inputs) only" in written(tmp_path, many)["notes"][0]
    record = dataclasses.replace(RECORD, evidence=evidence_of())
    found = written(tmp_path, shown(8, 0.2), record=record)
    assert found["enough_rank"] == evidence_of().sufficient_rank(record.tolerance)
    assert found["enough_rank"] is not None
    assert (
        f"take rank {found['enough_rank']} in every layer"
        in written(tmp_path, shown(8, -0.2), record=record)["recommendation"]
    )
