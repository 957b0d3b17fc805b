"""A study that is still running, and one that is finished, in the terminal."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.disk.tables import write_parquet
from autolora.engine.run.failure import keep_failure
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.shown import print_study
from tests.helpers.finished import RESULT
from tests.helpers.studies import AXES, with_study


def test_the_cells_are_counted_and_the_finished_ones_told_until_there_is_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path / "study")
    config = with_study(parse(["--name", "study"]).config, AXES)
    write_text(folder.config, to_yaml(dataclasses.replace(config, name="study")))
    for name in ("type-exact_seed-0", "type-exact_seed-1"):
        write_text(RunFolder(folder.cells / name).config, "")
    write_json(RunFolder(folder.cells / "type-exact_seed-1").metrics, RESULT)
    print_study(folder)
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 cells are finished, 1 half-done",
        "  type-exact_seed-1  accuracy 0.5000",
    ]
    left = dataclasses.replace(config, study=dataclasses.replace(config.study, exclude=[{"seed": 1}]))
    write_text(folder.config, to_yaml(left))
    print_study(folder)
    assert capsys.readouterr().out == "0 of 2 cells are finished, 1 half-done\n", "a cell left out does not count"
    write_text(folder.table, "# study\n\n| a | b |\n")
    print_study(folder)
    said = capsys.readouterr().out
    assert "| a | b |" in said
    assert str(folder.report) in said
    assert "accuracy" not in said


def test_a_failed_cell_is_shown_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StudyFolder(tmp_path / "study")
    config = with_study(parse(["--name", "study"]).config, AXES)
    write_text(folder.config, to_yaml(dataclasses.replace(config, name="study")))
    for name in ("type-exact_seed-0", "type-exact_seed-1"):
        write_text(RunFolder(folder.cells / name).config, "")
    keep_failure(RunFolder(folder.cells / "type-exact_seed-1"), "KeyError: 'layer.0'", "Traceback")
    keep_failure(RunFolder(folder.cells / "type-first_order-seed-0"), "of a cell that the study no longer has")
    keep_failure(RunFolder(folder.cells / "type-first_order_seed-0"), "--seed: no")
    print_study(folder)
    assert capsys.readouterr().out.splitlines() == [
        "0 of 4 cells are finished, 1 half-done, 2 failed",
        "  type-exact_seed-1  failed: KeyError: 'layer.0'",
        "  type-first_order_seed-0  failed: --seed: no",
    ]


def test_a_table_that_is_not_of_the_finished_cells_is_said_to_be_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path / "study")
    names = [f"type-exact_seed-{seed}" for seed in range(3)]
    for name in names[1:]:
        write_text(RunFolder(folder.cells / name).config, "")
        write_json(RunFolder(folder.cells / name).metrics, RESULT)
    write_text(folder.table, "| a | b |\n")

    def said(*of: str) -> str:
        write_parquet(folder.results, pd.DataFrame({"cell": list(of)}))
        print_study(folder)
        return capsys.readouterr().out.splitlines()[1]

    assert said(*names[1:]) == "| a | b |"
    assert said(names[1]) == f"the table below was written earlier: it lacks {names[2]}"
    assert said(*names) == f"the table below was written earlier: it still has {names[0]}"


def test_why_a_cell_has_no_result_is_that_of_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a killed study's second cell, --show said that it was half-done and, in the older table, not begun."""
    folder = StudyFolder(tmp_path / "study")
    config = with_study(parse(["--name", "study"]).config, AXES)
    write_text(folder.config, to_yaml(dataclasses.replace(config, name="study")))
    names = [f"type-{kind}_seed-{seed}" for kind in ("first_order", "exact") for seed in (0, 1)]
    for name in names[:2]:
        write_text(RunFolder(folder.cells / name).config, "")
    write_json(RunFolder(folder.cells / names[0]).metrics, RESULT)
    write_parquet(folder.results, pd.DataFrame({"cell": names[:1]}))
    earlier = f"| 3 cells, the first of them {names[1]} | they have not begun |"
    write_text(folder.table, f"# study\n\n| a | b |\n\n## Without a result\n\n| cell | why |\n{earlier}\n")
    print_study(folder)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 of 4 cells are finished, 1 half-done"
    assert said[1:9] == [
        "# study", "", "| a | b |", "", "## Without a result", "", "| cell | why |", "| --- | --- |",
    ]  # fmt: skip
    assert said[9:11] == [
        f"| {names[1]} | it is half-done |",
        f"| 2 cells, the first of them {names[2]} | they have not begun |",
    ]
