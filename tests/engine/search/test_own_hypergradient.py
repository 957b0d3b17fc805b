"""A hypergradient in a file of the user's own: searches and studies take it as one of the program's."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from configs.requests import Request
from configs.schema import RunConfig
from configs.schema_study import ProbeConfig
from engine.run.context import Context
from engine.run.interrupt import StopRequest
from engine.search.stage import search
from engine.study.comparison import run_probe
from engine.study.early import refuse_early
from engine.study.folder import StudyFolder
from tests.helpers.studies import with_study

pytestmark = pytest.mark.usefixtures("unchanged_registry")

KEY = "hypergradient.type"


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file with the central difference and the exact product under names of one's own."""
    (tmp_path / "mine.py").write_text(
        "from problems.hypergradients.difference import CentralDifference\n"
        "from problems.hypergradients.second_order import Exact\n\n\n"
        "class Mine(CentralDifference):\n    pass\n\n\nclass Second(Exact):\n    pass\n"
    )
    return str(tmp_path / "mine.py")


@pytest.mark.trains
@pytest.mark.parametrize(("name", "same"), [("Mine", "darts"), ("Second", "exact")])
def test_a_search_by_it_ends_with_the_same_bits(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], own: str, name: str, same: str
) -> None:
    found = {}
    for chosen in (f"{own}:{name}", same):
        run = run_of(tiny_config(f"--{KEY}", chosen, "--name", name if ":" in chosen else same))
        alpha = search(run).alpha()
        found[chosen] = alpha, load_file(run.folder.search_weights)
    (alpha, weights), (alpha_of_same, weights_of_same) = found.values()
    assert torch.equal(alpha, alpha_of_same)
    assert not torch.equal(alpha, torch.full_like(alpha, float(alpha.mean()))), "alpha has moved"
    assert all(torch.equal(weights[key], weights_of_same[key]) for key in weights_of_same)


@pytest.mark.trains
def test_a_comparison_includes_it(tiny_config: Callable[..., RunConfig], tmp_path: Path, own: str) -> None:
    (tmp_path / "study").mkdir()
    folder = StudyFolder(tmp_path / "study")
    probed = ProbeConfig(steps=[1], etas=["lr"], timed_steps=1)
    config = with_study(tiny_config("--search.patience", "0"), {KEY: ["darts", f"{own}:Mine"]}, probed)
    run_probe(config, folder, StopRequest())
    rows = pd.read_parquet(folder.probe).set_index("approximation")["cosine"]
    assert rows[f"{own}:Mine"] == rows["darts"] > 0.9
    assert f"{own}:Mine" in set(pd.read_parquet(folder.cost)["approximation"])


def test_a_study_with_a_missing_class_is_refused_early(tiny_config: Callable[..., RunConfig], own: str) -> None:
    def study(name: str, stage: str = "all", *given: str) -> None:
        config = with_study(tiny_config(*given), {KEY: ["darts", f"{own}:{name}"]}, ProbeConfig())
        refuse_early(Request(config, stage, False, "study.yaml"))  # type: ignore[arg-type]

    study("Mine")
    with pytest.raises(UserError, match=r"has no class 'Other'; allowed: Mine, Second$"):
        study("Other")
    study("Other", "report")
    study("Other", "all", "--answer.from", "runs/a")
