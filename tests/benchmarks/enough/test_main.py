"""The command: numbers, tables and the kept table."""

from pathlib import Path

import pandas as pd
import pytest

from autolora.engine.disk.files import read_json
from benchmarks.command import main
from benchmarks.enough.__main__ import EnoughSettings, measure_enough
from benchmarks.enough.trainings import write_table
from tests.helpers.regret_table import table


def run(*arguments: str) -> int:
    return main(EnoughSettings, measure_enough, arguments)


@pytest.mark.trains  # the JSON names the commit, which a process of its own tells
def test_a_kept_table_is_enough_for_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(table([1, 2, None]), tmp_path / "kept.csv")
    assert run("--table", str(tmp_path / "kept.csv"), "--json", str(tmp_path / "made.json")) == 0
    numbers = read_json(tmp_path / "made.json")["a"]
    assert (numbers["best"], numbers["enough"], numbers["seeds"]) == (2, [1, 2, None], 3)
    assert numbers["regrets"] == pytest.approx([0.2, 0.0, 0.2])
    shown = capsys.readouterr().out
    assert "enough: 1, 2, -" in shown
    assert "13.3 +- 6.7 %" in shown


def shown_of(tables: pd.DataFrame, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints of these trainings, without the tables' lines."""
    write_table(tables, path)
    assert run("--table", str(path)) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_task_on_which_lora_gains_nothing_leaves_the_others_in_the_last_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its regrets are not known, and had emptied the table."""
    nothing = table([1, 2], {0: 0.5, 1: 0.6, 2: 0.7, 4: 0.8}).assign(task="b")
    shown = shown_of(pd.concat([table([1, 2]), nothing]), tmp_path / "kept.csv", capsys)
    assert "1 2 10.0 +- 10.0 % 1 2 2 2.0 +- 2.0 % 0" in shown
    assert "b: left out, as LoRA gains nothing there" in shown


def test_a_multiple_at_which_nothing_was_trained_is_left_out_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had ended in a KeyError."""
    shown = shown_of(table([1, 4], {0: 1.0, 1: 0.6, 4: 0.5, 8: 0.52}), tmp_path / "kept.csv", capsys)
    assert "1 2 10.0 +- 10.0 % 1 4 2 2.0 +- 2.0 % 0" in shown
    assert "2 times that rank: left out, as nothing was trained at rank 2 (a)" in shown


def test_too_few_trainings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = table([1])
    write_table(whole[whole["method"] == "lora"], tmp_path / "kept.csv")
    assert run("--table", str(tmp_path / "kept.csv")) == 2
    assert "no seed has finished its search and a training at every rank" in capsys.readouterr().err


@pytest.mark.trains
def test_a_task_that_is_not_finished_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, begun = table([1]), table([1]).assign(task="b")
    write_table(pd.concat([whole, begun[begun["method"] == "lora"]]), tmp_path / "kept.csv")
    assert run("--table", str(tmp_path / "kept.csv")) == 0
    assert "b is left out: no seed has its search" in " ".join(capsys.readouterr().out.split())
