"""verdict.json: what stands in it for a decided verdict, and an undecided one."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.store.folder import RunFolder
from autolora.engine.verdict.arms import Arms, arms_of
from autolora.engine.verdict.record import PairLosses, write_verdict
from tests.helpers.command import parse
from tests.helpers.evidence import evidence_of

ROWS = 40
RECORD = RankRecord(4, (LayerRank("a", 3), LayerRank("b", 1)))


def shown(pairs: int, better: float, *others: str) -> PairLosses:
    """So many pairs in which the learned ranks are better by so much; LoRA gains 1 nat. `others`:
    further arms."""
    draw = np.random.default_rng(0)
    learned = 1 + draw.normal(0, 0.01, (pairs, ROWS))
    other = learned + better + draw.normal(0, 1e-3, (pairs, ROWS))
    losses = {"learned": learned, "shuffled": other} | dict.fromkeys(others, other)
    results = {
        name: [
            {"metrics": {"f1": 0.1 * (i + 1)}, "lora_parameters": 100 + i}
            for i in range(len(found))
        ]
        for name, found in losses.items()
    }
    return PairLosses(losses, np.ones(ROWS), np.arange(ROWS), np.full((2, ROWS), 2.0), results)


def written(
    tmp_path: Path, found: PairLosses, *arguments: str, record: RankRecord = RECORD
) -> dict[str, Any]:
    """The content of verdict.json."""
    config = parse(["--name", "a", *arguments]).config
    run = RunFolder(tmp_path / "a")
    write_verdict(found, Arms(config, run, record, {"a": 64, "b": 64}, 0.02))
    return read_json(run.verdict_summary)


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
    learned, shuffled, uniform = written(
        tmp_path, shown(8, 0.2, "uniform"), "--verdict.arms", "[uniform]"
    )["arms"]
    assert [len(arm["losses"]) for arm in (learned, shuffled, uniform)] == [8, 8, 8]
    assert not {"difference", "interval"} & set(learned)
    assert shuffled["difference"] == pytest.approx(
        np.mean(shuffled["losses"]) - np.mean(learned["losses"])
    )
    assert learned["parameters"] == 104, "a mean, as those of a shuffle may vary"
    assert learned["scores"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_layers_that_a_record_does_not_list_are_exchanged_too(tmp_path: Path) -> None:
    config = parse(["--name", "a"]).config
    run = RunFolder(tmp_path / "a")
    write_json(run.search_summary, {"parameters_per_rank": {"a": 64, "b": 64}})
    write_json(run.ranks, {"layers": [{"name": "b", "rank": 2}]})
    arms = arms_of(config, run)  # type: ignore[arg-type]
    assert arms.record.ranks == {"b": 2, "a": 0}
    write_json(run.ranks, {"layers": [{"name": "c", "rank": 2}]})
    with pytest.raises(UserError, match="layers that the run has searched"):
        arms_of(config, run)  # type: ignore[arg-type]
    write_json(run.ranks, {"layers": [{"name": name, "rank": 2} for name in "ab"]})
    with pytest.raises(UserError, match="a shuffle changes nothing"):
        arms_of(config, run)  # type: ignore[arg-type]


def test_one_pair_has_no_interval(tmp_path: Path) -> None:
    found = written(tmp_path, shown(1, 0.2))
    assert (found["ending"], found["pairs"], found["interval"]) == ("undecided", 1, None)
    assert "at least 8 pairs are needed" in found["sentence"]


def test_the_rank_that_is_enough_is_recommended_where_the_places_are_not(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, evidence=evidence_of())
    found = written(tmp_path, shown(8, -0.2), record=record)
    assert found["enough_rank"] == evidence_of().sufficient_rank(record.tolerance) == 2
    assert found["recommendation"] == "Do not use these ranks; take rank 2 in every layer."
