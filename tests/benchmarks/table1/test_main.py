"""The command: numbers, tables and the kept table."""

from pathlib import Path

import pytest
from PIL import Image

from autolora.engine.disk.files import read_json
from benchmarks.command import main
from benchmarks.table1.__main__ import Table1Settings, measure_table1
from benchmarks.table1.runs import read_table, write_table
from tests.helpers.table1_runs import runs, write_study


def run(*arguments: str) -> int:
    return main(Table1Settings, measure_table1, arguments)


@pytest.mark.trains  # the JSON names the commit, which a process of its own tells
def test_a_study_adds_its_runs_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, made, picture = (tmp_path / name for name in ("kept.csv", "made.json", "made.png"))
    write_table(runs({"shares 1": [0.4], "1 shuffled": [0.5], "head": [0.8]}), kept)
    study = write_study(tmp_path / "b", runs({"shares 1": [0.4], "1 shuffled": [0.3], "head": [0.8]}, task="b"))
    files = "--json", str(made), "--picture", str(picture)
    assert run("--table", str(kept), "--studies", f"[{study}]", *files) == 0
    assert read_table(kept)["task"].tolist() == ["a"] * 3 + ["b"] * 3
    numbers = read_json(made)
    assert len(numbers["runs"]) == 6
    assert Image.open(picture).width > 300
    (contrast,) = numbers["contrasts"]["against the same ranks in other layers"]
    assert contrast["differences"] == {"a": [pytest.approx(0.1)], "b": [pytest.approx(-0.1)]}
    assert contrast["p"] is None
    assert "against the same ranks in other layers" in " ".join(capsys.readouterr().out.split())


def test_without_runs_and_with_another_kind_of_picture_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--picture", "x.txt") == 2
    assert "--picture: x.txt is not allowed; allowed: a name that ends with .png" in capsys.readouterr().err
    assert run() == 2
    assert "--studies, --table: give at least one of them" in capsys.readouterr().err
