"""Every approximation of the hypergradient by the command line, and a class in a user's own
file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.contract.conftest import Tiny
from tests.contract.program import refused, succeed
from tests.contract.readers import read

TYPES = (
    "first_order",
    "darts",
    "forward_difference",
    "sama",
    "neumann",
    "cg",
    "exact",
    "exact_adamw",
    "unrolled",
)
SEARCH = ("--stage", "search", "--search.steps", "4", "--search.patience", "0")
OWN = '''
from autolora.configs import search
from autolora.problems.hypergradients import Darts, Exact


class Mine(Darts):
    """The central difference under a name of one's own; `radius` is a setting of its own."""

    def __init__(self, radius):
        super().__init__(search.Darts(radius=radius))


class Second(Exact):
    second_order = True

    def __init__(self):
        super().__init__(search.Exact())
'''


@pytest.mark.parametrize("kind", TYPES)
def test_a_search_by_any_approximation_moves_alpha(tiny: Tiny, folder: Path, kind: str) -> None:
    succeed(*tiny(*SEARCH, "--hypergradient.type", kind))
    alpha = (
        pd.read_parquet(folder / "search" / "trajectory.parquet")
        .groupby("step")["alpha"]
        .apply(np.array)
    )
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


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        (
            "Mine",
            ("--hypergradient.options", "{radius: 0.05}"),
            ("darts", "--hypergradient.radius", "0.05"),
        ),
        ("Second", (), ("exact",)),
    ],
)
def test_a_class_in_a_users_file_is_run(
    tiny: Tiny,
    tmp_path: Path,
    folder: Path,
    name: str,
    options: tuple[str, ...],
    same: tuple[str, ...],
) -> None:
    """One with second derivatives gets the attention that has them."""
    (tmp_path / "mine.py").write_text(OWN)
    succeed(*tiny(*SEARCH, "--hypergradient.type", f"{tmp_path}/mine.py:{name}", *options))
    succeed(*tiny(*SEARCH, "--name", "built_in", "--hypergradient.type", *same))
    for file in ("trajectory.parquet", "weights.safetensors"):
        own, built_in = (folder.with_name(name) / "search" / file for name in ("tiny", "built_in"))
        assert own.read_bytes() == built_in.read_bytes()


def test_an_approximation_that_is_not_there_is_named(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    for kind in ("nosuch", f"{tmp_path}/none.py:Scaled", f"{tmp_path}/mine.py:Nosuch"):
        assert kind.removeprefix(f"{tmp_path}/") in refused(
            *tiny(*SEARCH, "--hypergradient.type", kind)
        )
