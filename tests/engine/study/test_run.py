"""Studies: axes to cells, skipping what is finished, the probe and the report."""

import dataclasses
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Given, Request
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.configs.schema_study import ProbeConfig
from autolora.configs.values import with_values
from autolora.engine.command import run_request
from autolora.engine.disk.files import remove
from autolora.engine.disk.lock import locked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.study import stage as study_stage
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.launchers import LAUNCHERS, Launcher
from autolora.engine.tracking import login
from tests.helpers.studies import AXES, VARIANTS, with_study


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]
) -> tuple[RunConfig, StudyFolder]:
    """A finished study of two approximations and two seeds with a probe."""
    from autolora.configs.parser import parse
    from tests.helpers.tiny import tiny_arguments

    root = tmp_path_factory.mktemp("study")
    config = parse([*tiny_arguments(model_folder("bert"), root), "--search.patience", "0"]).config
    config = with_study(config, AXES, ProbeConfig(steps=[1, 4], etas=[1e-3, "betty"], timed_steps=1))
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    return config, StudyFolder(root / "runs" / "tiny")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this test draw no page of the study: other tests look at it."""
    monkeypatch.setattr(study_stage, "write_study_report", lambda *_: {})


@pytest.mark.trains
def test_every_cell_is_a_run_folder_and_a_row(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    rows = pd.read_parquet(folder.results)
    assert len(rows) == 4
    assert {"hypergradient.type", "seed", "metric.accuracy", "mean_rank", "ranks"} <= set(rows.columns)
    for cell in expand(config, folder):
        assert RunFolder(folder.cells / str(cell.config.name)).adapter.exists()


@pytest.mark.trains
def test_report_and_table_show_each_approximation(study: tuple[RunConfig, StudyFolder]) -> None:
    folder = study[1]
    for text in (folder.table.read_text(), folder.report.read_text()):
        assert "first_order" in text
        assert "exact" in text
    page = folder.report.read_text()
    assert "The loss on D_val over the passes used so far" in page
    assert "default-src 'none'" in html.unescape(page), "the page may load nothing"
    assert page.count("<script") - page.count("<script type=") == 2
    assert page.count('id="metric-0"') == 1


DAMAGES = {"half": '{"task": "sam', "empty": " ", "a list": "[]", "a word for a number": None, "no keys": "{}"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("stage", ["all", "report"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_cell_with_a_damaged_result_is_named_and_the_others_are_kept(
    study: tuple[RunConfig, StudyFolder], log_lines: list[str], stage: Any, kind: str
) -> None:
    config, folder = study
    metrics = expand(config, folder)[0].folder.metrics
    whole, results = metrics.read_text(), folder.results.read_bytes()
    content = DAMAGES[kind] or whole.replace('"lora_parameters": ', '"lora_parameters": "a", "x": ')
    metrics.write_text(content)
    try:
        message = rf"^1 of the study's cells failed or are damaged.*{re.escape(str(metrics))}.*remove the file"
        with pytest.raises(UserError, match=message) as caught:
            run_request(Request(config, stage, False, "study.yaml"), StopRequest())
        assert "\n" not in str(caught.value)
        assert metrics.read_text() == content, "nothing is taken away"
        assert len(pd.read_parquet(folder.results)) == 3
    finally:  # the study is other tests', too
        metrics.write_text(whole)
        folder.results.write_bytes(results)
    warning = next(line for line in log_lines if str(metrics) in line)
    assert warning.startswith("WARNING the results leave out a damaged cell: ")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.trains
def test_finished_cells_are_not_run_again(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = {path: path.stat().st_mtime_ns for path in folder.cells.glob("*/metrics.json")}
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    assert {path: path.stat().st_mtime_ns for path in folder.cells.glob("*/metrics.json")} == before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.trains
def test_an_export_that_finished_cells_lack_is_told(
    study: tuple[RunConfig, StudyFolder], log_lines: list[str]
) -> None:
    config, folder = study
    before = folder.config.read_bytes()
    for value, told in (("true", 1), ("false", 0)):
        log_lines.clear()
        given = Given(frozenset({"export.merged"}))
        asked = with_values(config, {"export.merged": value == "true"})
        run_request(Request(asked, "all", False, "study.yaml", given), StopRequest())
        found = [
            line for line in log_lines if line.startswith("WARNING --export.merged: 4 of the finished cells were")
        ]
        assert len(found) == told
    folder.config.write_bytes(before)


@pytest.mark.trains
def test_a_failed_cell_does_not_stop_the_others(
    tiny_config: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture
) -> None:
    config = with_study(tiny_config(), {"lora.target_modules": [["nothing"], ["query"]]})
    with pytest.raises(
        UserError, match=r"^1 of the study's cells failed or .*; the first failure: .*nothing"
    ) as caught:
        run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    assert "\n" not in str(caught.value)
    folder = StudyFolder(Path(config.runs_folder) / "tiny")
    assert len(pd.read_parquet(folder.results)) == 1


@pytest.mark.slow
def test_a_study_of_variants_compares_them_and_sweeps_once(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-6,3e-2]", "--retrain.max_steps", "8")
    config = dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]}, VARIANTS, sweep_once=True))
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    folder = StudyFolder(Path(config.runs_folder) / "tiny")
    rows = pd.read_parquet(folder.results)
    assert len(rows) == 6
    assert set(rows["method"]) == {"autolora", "lora_shuffled"}
    for _, cells in rows.groupby("variant"):
        assert cells["learning_rate"].nunique() == 1
    assert [(folder.cells / cell / "sweep.json").exists() for cell in rows["cell"]] == [True] * 3 + [False] * 3
    table = folder.table.read_text()
    for text in ("Metric by task", "autolora against", "by size"):
        assert text in table
    assert (folder.figures / "ranks_sample.png").exists()
    # Advice to remove a cell's folder must not lead into a dead end.
    remove(folder.cells / "seed-0_variant-autolora")
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    again = pd.read_parquet(folder.results)
    assert again["learning_rate"].to_list() == rows["learning_rate"].to_list()


@pytest.mark.trains
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("retrain.max_steps", "was finished with 4, now it is 5"),
        ("search.steps", "was finished with 6, now it is 5"),
    ],
)
def test_results_of_other_settings_are_not_taken_for_these(
    study: tuple[RunConfig, StudyFolder], key: str, message: str
) -> None:
    config, folder = study
    changed = with_values(config, {key: 5})
    with pytest.raises(UserError, match=rf"^--{re.escape(key)}: .*{message}"):
        run_request(Request(changed, "all", False, "study.yaml"), StopRequest())
    assert "max_steps: 4" in folder.config.read_text(), "the folder says what it holds"


@pytest.mark.trains
def test_a_comparison_at_other_steps_is_not_taken_for_this(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = folder.config.read_bytes()
    probe = dataclasses.replace(config.study.probe, steps=[2])
    changed = dataclasses.replace(config, study=dataclasses.replace(config.study, probe=probe))
    with pytest.raises(UserError, match=r"^--study\.probe\.steps: .* with \[1, 4\], now it is \[2\]"):
        run_request(Request(changed, "all", False, "study.yaml"), StopRequest())
    assert folder.config.read_bytes() == before


@pytest.mark.trains
def test_only_the_report_of_a_study_is_drawn_alone(study: tuple[RunConfig, StudyFolder], tmp_path: Path) -> None:
    config, folder = study
    folder.report.unlink()
    run_request(Request(config, "report", False, "study.yaml"), StopRequest())
    assert folder.report.exists()
    with pytest.raises(UserError, match="--stage: 'search' is not allowed for a study; allowed: all, report"):
        run_request(Request(config, "search", False, "study.yaml"), StopRequest())
    elsewhere = dataclasses.replace(config, runs_folder=str(tmp_path))
    with pytest.raises(UserError, match=r"config\.yaml does not exist, but a report needs it"):
        run_request(Request(elsewhere, "report", False, "study.yaml"), StopRequest())


@pytest.mark.trains
def test_a_report_takes_another_reference_and_runs_nothing(
    study: tuple[RunConfig, StudyFolder], log_lines: list[str]
) -> None:
    config, folder = study
    before = {path: path.stat().st_mtime_ns for path in folder.cells.glob("*/*")}
    assert "same task and seed: first_order" in folder.table.read_text()
    asked = with_values(config, {"study.reference": "exact"})
    given = Given(frozenset({"study.reference"}))
    try:
        run_request(Request(asked, "report", False, "study.yaml", given), StopRequest())
        titles = [line for line in folder.table.read_text().splitlines() if "same task and seed" in line]
        assert {title.rpartition(": ")[2] for title in titles} == {"exact"}
        assert {path: path.stat().st_mtime_ns for path in folder.cells.glob("*/*")} == before
        assert not any("does not read" in line for line in log_lines)
    finally:
        run_request(Request(config, "report", False, "study.yaml"), StopRequest())
    assert "same task and seed: first_order" in folder.table.read_text()


@pytest.mark.trains
def test_a_report_drawn_again_over_the_old_one_keeps_the_runs(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study

    def kept() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [*folder.cells.rglob("*"), folder.probe, folder.cost]}

    before = kept()
    (folder.figures / "of_before.png").touch()
    run_request(Request(config, "report", True, "study.yaml"), StopRequest())
    assert kept() == before
    assert folder.report.exists()
    assert not (folder.figures / "of_before.png").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.trains
def test_what_a_launcher_refuses_is_refused_before_the_folder_is_touched(
    study: tuple[RunConfig, StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = study

    def refuse(*_: Any) -> Any:
        raise UserError("--study.launcher: no")

    monkeypatch.setitem(LAUNCHERS, "serial", Launcher(lambda *_: [], refuse))
    before = sorted(folder.root.rglob("*"))
    with pytest.raises(UserError, match=r"^--study\.launcher: no$"):
        run_request(Request(config, "all", True, "study.yaml"), StopRequest())
    assert sorted(folder.root.rglob("*")) == before
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    run_request(Request(config, "report", False, "study.yaml"), StopRequest())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.trains
def test_wandb_without_its_key_is_refused_before_an_overwrite(
    study: tuple[RunConfig, StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "has_key", lambda: False)
    config, folder = study
    online = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, wandb="online"))
    before = sorted(folder.root.rglob("*"))
    with pytest.raises(UserError, match=r"^--tracking\.wandb: 'online' needs an API key"):
        run_request(Request(online, "all", True, "study.yaml"), StopRequest())
    assert sorted(folder.root.rglob("*")) == before
    run_request(Request(online, "report", False, "study.yaml"), StopRequest())  # sends nothing to wandb


@pytest.mark.trains
@pytest.mark.parametrize("begun", ["ranks.json", "search", "sweep.json"])
def test_a_single_run_is_not_overwritten_by_a_study(
    study: tuple[RunConfig, StudyFolder], tmp_path: Path, begun: str
) -> None:
    config = dataclasses.replace(study[0], runs_folder=str(tmp_path))
    run = RunFolder(tmp_path / str(config.name))
    run.root.mkdir()
    (run.root / begun).touch()
    with pytest.raises(UserError, match=r"holds a single run; give the study another name"):
        run_request(Request(config, "all", True, "study.yaml"), StopRequest())
    assert [path.name for path in run.root.iterdir()] == [begun]


@pytest.mark.trains
@pytest.mark.parametrize("stage", ["all", "retrain"])
def test_a_study_is_not_overwritten_by_a_single_run(study: tuple[RunConfig, StudyFolder], stage: Any) -> None:
    config, folder = study
    before = {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")}
    with pytest.raises(UserError, match=rf"^--name: {folder.root} holds a study; give the run another name$"):
        run_request(Request(dataclasses.replace(config, study=StudyConfig()), stage, True, "x.yaml"), StopRequest())
    assert {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")} == before


@pytest.mark.trains
def test_a_study_in_use_is_refused_and_kept(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = sorted(folder.root.rglob("*"))
    with locked(folder.root), pytest.raises(UserError, match="is in use by process"):
        run_request(Request(config, "all", True, "study.yaml"), StopRequest())
    assert sorted(folder.root.rglob("*")) == before
