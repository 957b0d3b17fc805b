"""`--stage probe` holds every hypergradient against the exact one, and tells it."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.search import COMPARED
from autolora.engine.command import run_request
from autolora.engine.interrupt import StopRequest
from autolora.engine.store.folder import RunFolder
from tests.helpers.command import parse
from tests.helpers.tiny import tiny_arguments

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("quick_figures")]
OWN = (
    "from autolora.configs import search\n"
    "from autolora.problems.hypergradients import Darts\n"
    "\n"
    "\n"
    "class Mine(Darts):\n"
    "    def __init__(self, eta):\n"
    "        super().__init__(search.Darts(eta=eta))\n"
)


class Probed:
    """A probe by the command line, along the search of a user's own class."""

    def __init__(self, root: Path, model: Path) -> None:
        (root / "mine.py").write_text(OWN)
        self.own = f"{root / 'mine.py'}:Mine"
        self.tiny = tiny_arguments(model, root)
        self.words = {
            "--stage": "probe",
            "--search.patience": "0",
            "--search.unroll_steps": "2",
            "--probe.steps": "[3, 99]",
            "--probe.etas": "[0.001, betty]",
            "--hypergradient.type": self.own,
            "--hypergradient.options": "{eta: 0.001}",
        }
        self.folder = RunFolder.of(parse(self.tiny).config)
        self.run({})

    def run(self, other: dict[str, str]) -> dict[str, Any]:
        run_request(
            parse([*self.tiny, *filter(None, chain(*(self.words | other).items()))]), StopRequest()
        )
        found: dict[str, Any] = json.loads(self.folder.probe_result.read_text())
        return found


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Probed:
    return Probed(tmp_path_factory.mktemp("probe"), model_folder("bert"))


def test_each_is_compared_with_exact_at_the_outer_steps(probed: Probed) -> None:
    rows = pd.DataFrame(json.loads(probed.folder.probe_result.read_text())["distance"])
    assert set(rows["approximation"]) == {*COMPARED, probed.own}
    assert rows["step"].unique().tolist() == [2, 6], (
        "the last outer steps up to 3, and in the search of 6 steps"
    )
    by_name = rows.set_index(["approximation", "eta"]).sort_index()["cosine"]
    assert by_name["exact"].min() > 0.9999
    assert by_name["darts"].min() > 0.98
    assert by_name["first_order"].isna().all()
    assert by_name[probed.own, "0.001"].tolist() == pytest.approx(
        by_name["darts", "0.001"].tolist()
    )


def test_the_page_shows_it(probed: Probed) -> None:
    assert "Distance of each hypergradient" in probed.folder.report.read_text()


def test_the_same_command_does_nothing_and_another_setting_is_refused(probed: Probed) -> None:
    before = probed.folder.probe_result.read_bytes()
    probed.run({})
    assert probed.folder.probe_result.read_bytes() == before
    with pytest.raises(
        UserError, match=r"probe was made with --probe\.steps \[3, 99\], now it is \[3\]"
    ):
        probed.run({"--probe.steps": "[3]"})
    assert probed.folder.probe_result.read_bytes() == before


def test_overwrite_keeps_the_old_one_and_a_study_is_probed_beside_it(probed: Probed) -> None:
    few = {"--probe.etas": "[lr]", "--probe.steps": "[2]"}
    found = probed.run(few | {"--overwrite": ""})
    assert {row["eta"] for row in found["distance"]} == {"lr"}
    assert (probed.folder.root / "probe.old-1").exists()
    probed.run(few | {"--study.axes": "{seed: [0]}"})
    assert (
        probed.folder.root.parent / f"{probed.folder.root.name}-probe" / "probe" / "probe.json"
    ).exists()


def test_a_method_without_a_hypergradient_is_refused(probed: Probed) -> None:
    for words in (["--method", "lora"], ["--hypergradient.type", "none"]):
        with pytest.raises(UserError, match=r"^--stage probe: needs method autolora"):
            run_request(parse([*probed.tiny, "--stage", "probe", *words]), StopRequest())
