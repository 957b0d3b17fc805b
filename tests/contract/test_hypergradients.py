"""Every approximation of the hypergradient by the command line, and a class in a user's own file."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.contract.conftest import Tiny
from tests.contract.program import command, succeed
from tests.contract.readers import read

pytestmark = pytest.mark.trains

TYPES = (
    "first_order", "darts", "forward_difference", "sama", "neumann", "cg", "exact", "exact_adamw", "unrolled",
)  # fmt: skip
SEARCH = ("--stage", "search", "--search.steps", "4", "--search.patience", "0")
OWN = '''
from autolora.problems.hypergradients import Hypergradient


class Scaled(Hypergradient):
    """The direct gradient alone, counted; `by` is a setting of its own."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def start(self, inner):
        return {"calls": 0}

    def term(self, state, v, inner, outer):
        return [0 * self.by * beta.detach() for beta in outer.trained], {"calls": state["calls"] + 1}
'''


@pytest.mark.parametrize("kind", TYPES)
def test_a_search_by_any_approximation_moves_alpha(tiny: Tiny, folder: Path, kind: str) -> None:
    succeed(*tiny(*SEARCH, "--hypergradient.type", kind))
    alpha = pd.read_parquet(folder / "search" / "trajectory.parquet").groupby("step")["alpha"].apply(np.array)
    assert np.ptp(alpha[0]) == 0, "alpha starts uniform"
    assert np.ptp(alpha[4]) > 1e-3
    lines = read(folder / "search" / "metrics.jsonl")
    if kind == "first_order":
        assert all(not line["implicit_to_direct"] for line in lines)
    else:
        assert all(line["implicit_to_direct"] > 0 and -1 <= line["cosine"] <= 1 for line in lines)


def test_none_takes_no_outer_step(tiny: Tiny, folder: Path) -> None:
    succeed(*tiny(*SEARCH, "--hypergradient.type", "none"))
    table = pd.read_parquet(folder / "search" / "trajectory.parquet")
    assert set(table["alpha"]) == {0.25}
    assert [line["val_loss"] for line in read(folder / "search" / "metrics.jsonl")] == [None, None]


@pytest.mark.parametrize("eta", ["0.5", "lr", "betty"])
def test_eta_is_a_number_the_rate_or_bettys(tiny: Tiny, folder: Path, eta: str) -> None:
    succeed(*tiny(*SEARCH, "--hypergradient.type", "forward_difference", "--hypergradient.eta", eta))
    assert all(line["implicit_to_direct"] > 0 for line in read(folder / "search" / "metrics.jsonl"))


def test_a_search_draws_the_same_numbers_whatever_came_before(tiny: Tiny, folder: Path) -> None:
    found = []
    for name in ("one", "two"):
        torch.manual_seed(len(name) + len(found))
        random.seed(len(found))
        succeed(*tiny(*SEARCH, "--lora.dropout", "0.1", "--name", name))
        found.append((folder.parent / name / "search" / "trajectory.parquet").read_bytes())
    assert found[0] == found[1]


def test_unrolled_steps_and_a_schedule(tiny: Tiny, folder: Path) -> None:
    more = ("--search.unroll_steps", "2", "--search.scheduler", "cosine", "--hypergradient.type", "unrolled")
    succeed(*tiny(*SEARCH, *more))
    assert np.isfinite(pd.read_parquet(folder / "search" / "trajectory.parquet")["alpha"]).all()


def test_a_class_in_a_users_file_is_run(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    more = ("--hypergradient.type", f"{file}:Scaled", "--hypergradient.options", "{by: 2.0}")
    succeed(*tiny(*SEARCH, *more))
    own = pd.read_parquet(folder / "search" / "trajectory.parquet")
    succeed(*tiny(*SEARCH, "--hypergradient.type", "first_order", "--name", "built_in"))
    built_in = pd.read_parquet(folder.parent / "built_in" / "search" / "trajectory.parquet")
    pd.testing.assert_frame_equal(own, built_in, rtol=1e-6)


def test_an_approximation_that_is_not_there_is_named(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    for kind in ("nosuch", f"{tmp_path}/none.py:Scaled", f"{tmp_path}/mine.py:Nosuch"):
        answer = command(*tiny(*SEARCH, "--hypergradient.type", kind))
        assert answer.code == 2
        assert kind.rpartition("/")[2].partition(":")[0].removesuffix(".py") in answer.line
