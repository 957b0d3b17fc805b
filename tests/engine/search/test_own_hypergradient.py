"""A hypergradient in a file of the user's own: searches and studies take it as one of the program's."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.study import ProbeConfig
from autolora.engine.command import run_request
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resuming import Outdated
from autolora.engine.search.settings import refuse_changed_search
from autolora.engine.search.stage import search
from autolora.engine.study.comparison import COMPARED, refuse_changed_probe, run_probe
from autolora.engine.study.folder import AskedOfStudy, StudyFolder
from tests.helpers.places import ROOT
from tests.helpers.studies import with_study

KEY = "hypergradient.type"


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file with the central difference and the exact product under names of one's own."""
    (tmp_path / "mine.py").write_text(
        "from autolora.configs import search\nfrom autolora.problems.hypergradients import Darts, Exact\n\n\n"
        "class Mine(Darts):\n    def __init__(self):\n        super().__init__(search.Darts())\n\n\n"
        "class Second(Exact):\n    second_order = True\n\n"
        "    def __init__(self):\n        super().__init__(search.Exact())\n"
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
    assert rows[f"{own}:Mine"] == pytest.approx(rows["darts"])
    assert rows["darts"] > 0.9
    assert f"{own}:Mine" in set(pd.read_parquet(folder.cost)["approximation"])


@pytest.mark.trains
def test_a_comparison_has_a_row_for_each_set_of_options(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Both carry a mean, so they are called at each of the three outer steps."""
    (tmp_path / "study").mkdir()
    folder, type_ = StudyFolder(tmp_path / "study"), f"{ROOT / 'tests' / 'helpers' / 'own_hypergradients.py'}:Carrying"
    named = {str(keeps): {KEY: type_, "hypergradient.options": {"keeps": keeps}} for keeps in (0.0, 0.5)}
    config = with_study(
        tiny_config("--search.patience", "0"),
        {"variant": {"darts": {KEY: "darts"}, **named}},
        ProbeConfig(steps=[1, 3], etas=["betty"], timed_steps=1),
    )
    run_probe(config, folder, StopRequest())
    rows = pd.read_parquet(folder.probe).set_index(["approximation", "step", "eta"])["cosine"]
    for eta in ("betty",):
        assert rows[f"{type_} {{keeps: 0.0}}", 3, eta] == pytest.approx(rows["darts", 3, eta])
        assert rows[f"{type_} {{keeps: 0.5}}", 1, eta] == pytest.approx(rows["darts", 1, eta])
        assert rows[f"{type_} {{keeps: 0.5}}", 3, eta] < rows["darts", 3, eta] - 1e-6, "the mean lags behind"
    costs = set(pd.read_parquet(folder.cost)["approximation"])
    assert {f"{type_} {{keeps: 0.0}}", f"{type_} {{keeps: 0.5}}"} < costs


@pytest.mark.trains
def test_a_search_of_another_file_of_that_name_is_not_used(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], own: str
) -> None:
    config = tiny_config(f"--{KEY}", f"{own}:Mine")
    run = run_of(config)
    search(run)
    refuse_changed_search(AskedOf(config, run.folder))
    Path(own).write_text(Path(own).read_text() + "\n")
    said = (
        r"^--hypergradient\.type, its file: .* holds a search that was made with 'SHA-256 \w{16}', now it is 'SHA-256 "
    )
    with pytest.raises(UserError, match=said):
        refuse_changed_search(AskedOf(config, run.folder))
    Path(own).unlink()  # a search that is finished does not need it
    refuse_changed_search(AskedOf(config, run.folder))


def test_a_class_of_the_comparison_alone_is_refused_before_the_first_cell(
    tiny_config: Callable[..., RunConfig], own: str
) -> None:
    """It was found only after all cells had trained."""
    given = tiny_config("--search.patience", "0", f"--{KEY}", f"{own}:Other")
    config = with_study(given, {KEY: ["darts"]}, ProbeConfig(steps=[2]))
    with pytest.raises(UserError, match=r"has no class 'Other'; allowed: Mine, Second$"):
        run_request(Request(config, "all", False, "study.yaml"), StopRequest())


def test_a_comparison_that_lacks_a_class_of_the_study_is_not_kept(
    tiny_config: Callable[..., RunConfig], own: str
) -> None:
    def asked(*classes: str) -> AskedOfStudy:
        types = ["darts", *(f"{own}:{name}" for name in classes)]
        config = with_study(tiny_config("--search.patience", "0"), {KEY: types}, ProbeConfig(steps=[2]))
        return AskedOf(config, StudyFolder.of(config))

    folder = asked().folder
    write_json(folder.probe_settings, {"settings": COMPARED.of(asked().config), "own": [f"{own}:Mine"]})
    write_text(folder.probe, "")
    refuse_changed_probe(asked())
    refuse_changed_probe(asked("Mine"))
    said = rf"^--{re.escape(KEY)}: .* holds a comparison of hypergradients without .*:Second; remove .*probe\.parquet"
    with pytest.raises(Outdated, match=said):
        refuse_changed_probe(asked("Mine", "Second"))
