"""A study's comparison holds every approximation against exact, and counts what a step of each costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.cli import Request, parse
from configs.schema import RunConfig
from configs.schema_study import ProbeConfig
from engine.run.interrupt import StopRequest
from engine.study.comparison import run_probe
from engine.study.folder import StudyFolder
from problems.hypergradients import HYPERGRADIENTS
from tests.helpers.studies import AXES, with_study
from tests.helpers.tiny import tiny_arguments


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]
) -> tuple[RunConfig, StudyFolder]:
    """A comparison at two steps, without the runs of its study."""
    root = tmp_path_factory.mktemp("comparison")
    config = parse([*tiny_arguments(model_folder("bert"), root), "--search.patience", "0"]).config
    config = with_study(config, AXES, ProbeConfig(steps=[1, 4], etas=[1e-3, "betty"], timed_steps=1))
    folder = StudyFolder(root / "runs" / "tiny")
    run_probe(Request(config, "all", False, "study.yaml"), folder, StopRequest())
    return config, folder


def test_probe_compares_every_approximation_with_exact(compared: tuple[RunConfig, StudyFolder]) -> None:
    rows = pd.read_parquet(compared[1].probe)
    assert set(rows["approximation"]) == set(HYPERGRADIENTS)
    assert set(rows["step"]) == {1, 4}
    exact = rows[rows["approximation"] == "exact"]
    assert exact["cosine"].min() > 0.9999
    difference = rows[(rows["approximation"] == "darts") & (rows["step"] == 4)]
    assert difference["cosine"].min() > 0.99


def test_cost_counts_the_documented_passes(compared: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = compared
    rows = pd.read_parquet(folder.cost).set_index("approximation")
    for name, method in HYPERGRADIENTS.items():
        cost = method.cost(config.hypergradient.terms)
        assert (rows.loc[name, "forward_passes"], rows.loc[name, "backward_passes"]) == (cost.forward, cost.backward)
    assert rows.loc["lora", "ratio_to_lora"] == 1
