"""Rows that changed are named with their file, and what they were; what nobody has seen yet may change."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.context import Context
from autolora.engine.run.same_data import heed_data_of_ranks, refuse_changed_data
from tests.helpers.half_done import table_of


@pytest.fixture
def run(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path) -> Context:
    return run_of(tiny_config(*table_of(tmp_path)))


def other(run: Context, **changes: Any) -> dict[str, Any]:
    """The fingerprint of before some of it changed."""
    return copy.deepcopy(run.fingerprint) | changes


def chosen_on(data: dict[str, Any]) -> dict[str, Any]:
    """What a search or a grid writes that chose ranks on the rows of this fingerprint."""
    return {"parameters_per_rank": {}, "data": data}


def line_of(run: Context, recorded: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        refuse_changed_data(run, recorded)
    return str(caught.value)


def test_the_same_rows_pass(run: Context) -> None:
    refuse_changed_data(run, copy.deepcopy(run.fingerprint))
    refuse_changed_data(run, {})  # nothing was recorded


def test_another_number_of_rows_is_said(run: Context, tmp_path: Path) -> None:
    assert line_of(run, other(run, training={"rows": 20, "sha256": "x"})) == (
        f"--task.path: {tmp_path}/train.csv no longer gives the training rows that the half-done run in "
        f"{run.folder.root} began with (20 then, 24 now); bring the old data back to resume, --name for another run, "
        f"or --overwrite to start again"
    )


def test_as_many_rows_may_be_others(run: Context) -> None:
    line = line_of(run, other(run, training={"rows": 24, "sha256": "x"}))
    assert "(24, but not the same ones or in another order)" in line


def test_many_classes_are_cut_short(run: Context) -> None:
    line = line_of(run, other(run, classes=[f"c{i}" for i in range(12)]))
    assert "no longer has the classes that " in line
    assert "c8, c9 and 2 more then, bad, good now)" in line


def test_evaluation_rows_are_named_by_their_split_and_count_only_where_they_are_compared(
    run: Context, tmp_path: Path
) -> None:
    recorded = other(run, evaluation={"validation": {"rows": 7, "sha256": "x"}})
    line = line_of(run, recorded)
    assert line.startswith(f"--task.validation_path: {tmp_path}/dev.csv no longer gives the validation rows that ")
    refuse_changed_data(run, recorded, evaluated=False)
    refuse_changed_data(run, recorded | {"evaluation_rows": 7})
    refuse_changed_data(run, other(run, evaluation={"test": {"rows": 7, "sha256": "x"}}))


@pytest.mark.parametrize(("method", "name"), [("autolora", "search_summary"), ("lora_grid", "grid")])
def test_ranks_chosen_on_other_rows(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    tmp_path: Path,
    log_lines: list[str],
    method: str,
    name: str,
) -> None:
    run = run_of(tiny_config(*table_of(tmp_path), "--method", method))
    path = getattr(run.folder, name)
    heed_data_of_ranks(run, "all")  # ranks by hand: no search is there
    write_json(path, chosen_on(other(run, evaluation={"validation": {"rows": 7, "sha256": "x"}})))
    heed_data_of_ranks(run, "all")  # it has seen no evaluation rows
    assert not any(line.startswith("WARNING") for line in log_lines)
    log_lines.clear()
    write_json(path, chosen_on(other(run, training={"rows": 20, "sha256": "x"})))
    with pytest.raises(UserError, match=r"ranks\.json were chosen on \(20 then, 24 now\); .*--stage retrain to take"):
        heed_data_of_ranks(run, "all")
    heed_data_of_ranks(run, "retrain")
    assert [line.split(":")[0] for line in log_lines] == ["WARNING --task.path"]
    assert log_lines[0].endswith("(20 then, 24 now); they are taken as they are")


def test_a_head_for_other_classes_is_no_start_of_a_retraining(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    """As many classes of other names: the head that was searched for them was used without a word."""
    run = run_of(tiny_config(*table_of(tmp_path), "--retrain.init", "search"))
    write_json(run.folder.search_summary, chosen_on(other(run, classes=["a", "z"])))
    with pytest.raises(UserError, match=r"no longer has the classes .*, or use --retrain\.init scratch"):
        heed_data_of_ranks(run, "retrain")


def test_a_damaged_record_of_the_rows_is_named(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    """--stage retrain ended in a traceback."""
    run = run_of(tiny_config(*table_of(tmp_path)))
    write_json(run.folder.search_summary, chosen_on(other(run, classes=None)))
    with pytest.raises(UserError, match=r"summary\.json: data\.classes: "):
        heed_data_of_ranks(run, "retrain")


def test_a_method_that_searches_nothing_has_no_such_ranks(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    run = run_of(tiny_config(*table_of(tmp_path), "--method", "lora"))
    write_json(run.folder.search_summary, chosen_on(other(run, training={"rows": 20, "sha256": "x"})))
    heed_data_of_ranks(run, "all")
