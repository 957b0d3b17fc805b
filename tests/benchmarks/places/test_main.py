"""The command: numbers, tables, the kept table and the picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from benchmarks.command import main
from benchmarks.places.__main__ import PlacesSettings, measure_places
from benchmarks.places.allocations import write_table
from tests.helpers.allocations import LAYERS, planted
from tests.helpers.finished import RESULT


def run(*arguments: str) -> int:
    return main(PlacesSettings, measure_places, arguments)


@pytest.mark.trains  # the JSON names the commit, which a process of its own tells
def test_a_kept_table_is_enough_for_numbers_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(planted(np.linspace(0, 0.05, len(LAYERS)), noise=0.001, allocations=60), tmp_path / "kept.csv")
    places = {name: str(tmp_path / f"made.{name}") for name in ("json", "png")}
    assert run("--table", str(tmp_path / "kept.csv"), "--json", places["json"], "--picture", places["png"]) == 0
    numbers = read_json(Path(places["json"]))
    assert (numbers["trainings"], numbers["allocations"]) == (120, 60)
    assert numbers["places"]["interval"][0] > 0.02
    assert "some places are better than others" in numbers["said"]
    assert numbers["explained"]["and exactly which layers"]["r2"] > 0.8
    assert list(numbers["effects"]) == LAYERS
    assert Image.open(places["png"]).width > 300
    shown = capsys.readouterr().out
    assert "120 trainings of 60 allocations" in shown
    assert "number of layers" in shown


def test_a_check_that_a_table_does_not_allow_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that judge the trainings may have been searched on."""
    write_table(planted(np.zeros(len(LAYERS)), noise=0.001), tmp_path / "kept.csv")
    ranks.save(RankRecord(8, tuple(LayerRank(name, 1) for name in LAYERS), rule="eva"), tmp_path / "ranks.json")
    write_json(RunFolder(tmp_path).metrics, RESULT)
    said = []
    for more in ([], ["--searched", f"[{tmp_path}]"]):
        assert run("--table", str(tmp_path / "kept.csv"), *more) == 0
        said.append("so that it was not checked" in " ".join(capsys.readouterr().out.split()))
    assert said == [False, True]


def test_too_few_trainings_and_none_at_all_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "--study, --table: give at least one of them" in capsys.readouterr().err
    write_table(planted(np.zeros(len(LAYERS)), allocations=10), tmp_path / "kept.csv")
    assert run("--table", str(tmp_path / "kept.csv")) == 2
    assert "trainings at 10 allocations are too few; allowed: 20 or more" in capsys.readouterr().err


def test_a_picture_of_another_kind_is_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--study", "none", "--picture", "x.txt") == 2
    assert "--picture: x.txt is not allowed; allowed: a name that ends with .png" in capsys.readouterr().err
