"""--stage verdict: pairs of trainings at learned and shuffled ranks, until the loss decides or the
time is over."""

import shutil
from pathlib import Path

import pytest

from tests.contract.conftest import Finished, Tiny
from tests.contract.program import succeed
from tests.contract.readers import read
from tests.helpers.shell import words
from tests.helpers.tiny import MEASURED

FEW = words(
    "--task.train_rows 64 --task.evaluation_rows 16 --retrain.max_steps 2 "
    "--verdict.pairs 8 --verdict.rows 16"
)


@pytest.fixture
def judged(finished: Finished) -> Path:
    """The folder of a search with its verdict; do not write."""
    return finished(*FEW, "--stage", "verdict")


def test_a_verdict_tells_ending_difference_and_how_sure_it_is(judged: Path) -> None:
    found = read(judged / "verdict.json")
    assert found["ending"] in ("matter", "worse", "equal", "undecided")
    assert found["pairs"] == 8
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    assert 0 <= found["p"] <= 1
    parameters = {arm["name"]: arm["parameters"] for arm in found["arms"]}
    assert parameters["learned"] == parameters["shuffled"] == found["parameters"]
    record = read(judged / "ranks.json")
    assert found["parameters"] == 64 * sum(layer["rank"] for layer in record["layers"])
    assert found["sentence"]


def test_the_same_command_again_trains_nothing(tiny: Tiny, judged: Path, folder: Path) -> None:
    shutil.copytree(judged, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("verdict/**/metrics.json")}
    assert len(before) >= 16
    succeed(*tiny(*MEASURED, *FEW, "--stage", "verdict"))
    assert {
        path: path.stat().st_mtime_ns for path in folder.glob("verdict/**/metrics.json")
    } == before


def test_a_verdict_whose_time_is_over_ends_with_the_pairs_that_are_trained(
    tiny: Tiny, folder: Path
) -> None:
    for pairs in (1, 2):
        succeed(*tiny(*MEASURED, *FEW, "--stage", "verdict", "--verdict.minutes", "0.001"))
        found = read(folder / "verdict.json")
        assert (found["ending"], found["pairs"]) == ("undecided", pairs)
