"""What a request starts, and what is refused among several processes."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Request, ScoreRequest, ShowRequest
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine import command
from autolora.engine.command import run_request
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.study.folder import StudyFolder
from autolora.problems.machine.processes import Processes
from tests.helpers.finished import RESULT


def start(request: Any) -> None:
    run_request(request, StopRequest())


@pytest.mark.trains
def test_show_prints_a_run_without_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Full fine-tuning and bottleneck adapters have none."""
    write_json(RunFolder(tmp_path).metrics, RESULT | {"lora_parameters": 0, "trainable_parameters": 1234})
    start(ShowRequest(str(tmp_path)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "accuracy 0.5000" in shown
    assert "1,234 trainable parameters" in shown


def test_show_finds_new_results_that_still_grow(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was begun with --overwrite under a new name was not found, and its own command was refused."""
    config = dataclasses.replace(tiny_config(), name="mine", runs_folder=str(tmp_path))
    growing = RunFolder(tmp_path / ".mine.overwrite")
    write_text(growing.config, to_yaml(config))
    for asked in ("mine", ".mine.overwrite"):
        start(ShowRequest(str(tmp_path / asked)))
        shown = capsys.readouterr().out
        assert "search: no step is logged yet" in shown
        assert "the same command resumes it" in shown


@pytest.mark.trains
def test_show_tells_of_new_results_beside_finished_ones(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(RunFolder(tmp_path / "mine").metrics, RESULT)
    growing = RunFolder(tmp_path / ".mine.overwrite")
    line = f"new results are half done in {growing.root}; --overwrite resumes them"
    start(ShowRequest(str(tmp_path / "mine")))
    assert line not in capsys.readouterr().out
    write_text(growing.config, to_yaml(tiny_config()))
    start(ShowRequest(str(tmp_path / "mine")))
    assert line in capsys.readouterr().out


def test_the_lines_for_a_trainer_are_those_of_a_run_and_not_of_a_study(tmp_path: Path) -> None:
    """The study's own config.yaml made it look like a run without ranks, whose advice could not be followed."""
    folder = StudyFolder(tmp_path / "runs" / "s")
    folder.cells.mkdir(parents=True)
    write_text(folder.config, to_yaml(dataclasses.replace(RunConfig(name="s"), study=StudyConfig({"seed": [0]}))))
    message = rf"^--for: {folder.root} is a study; give the folder of one of its runs, in {folder.cells}$"
    with pytest.raises(UserError, match=message):
        start(ShowRequest(str(folder.root), "trl"))


@pytest.mark.trains
def test_show_of_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^/: is not allowed as the folder of a run"):
        start(ShowRequest("/"))
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=rf"^--show: {folder} holds no run and no study; give the folder of one"):
            start(ShowRequest(str(folder)))


@pytest.mark.trains
def test_score_writes_the_values_of_the_files(tmp_path: Path) -> None:
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("a b c d e\n")
    start(ScoreRequest("e2e", str(tmp_path / "hyp"), str(tmp_path / "ref"), str(tmp_path / "out"), ["BLEU"]))
    assert json.loads((tmp_path / "out").read_text()) == {"BLEU": 1.0}


@pytest.mark.parametrize("study", [(), ("--study.axes", "{seed: [0]}")])
def test_a_setting_that_does_nothing_is_refused_before_anything_is_written(
    make_argv: Callable[..., list[str]], tmp_path: Path, study: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"^--answer\.budget: does nothing with --answer\.rule threshold, which has"):
        start(parse([*make_argv(tmp_path), *study, "--answer.budget", "3"]))
    assert not (tmp_path / "runs").exists()


def study(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, study=StudyConfig(variants={"a": {}, "b": {}}))


ONE_PROCESS = {
    "a study of variants": ((), study, r"^torchrun: a study needs one process; start run\.py without torchrun"),
    "a grid": (("--method", "lora_grid"), lambda c: c, r"^torchrun: trying ranks or learning rates .*lora_grid"),
    "a sweep": (
        ("--retrain.learning_rates", "[1e-3]"), lambda c: c, r"^torchrun: trying .*--retrain\.learning_rates"
    ),
    "accumulation": (
        ("--retrain.gradient_accumulation", "2"), lambda c: c, r"^torchrun: --retrain\.gradient_accumulation needs"
    ),
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize("key", ["learning_rates", "gradient_accumulation"])
def test_a_search_by_several_processes_is_not_refused_for_what_only_the_retraining_reads(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    value = {"learning_rates": "[1e-3]", "gradient_accumulation": "2"}[key]
    begun: list[str] = []

    @contextmanager
    def begin(device: str) -> Iterator[Any]:
        begun.append(device)
        raise KeyboardInterrupt
        yield

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(command, "joined", begin)
    with pytest.raises(KeyboardInterrupt):
        start(Request(tiny_config(f"--retrain.{key}", value), "search", False, "x"))
    assert begun == ["cpu"]


@pytest.mark.trains
@pytest.mark.parametrize("case", ONE_PROCESS)
def test_what_is_one_process_work_is_refused_to_several_before_anything_is_written(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    arguments, change, message = ONE_PROCESS[case]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=message):
        start(Request(change(tiny_config(*arguments)), "all", False, "x"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.trains
@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_says_the_result(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: int,
) -> None:
    config = tiny_config()
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    given: list[Processes] = []

    @contextmanager
    def joined(device: str) -> Iterator[Processes]:
        assert device == "cpu"
        yield Processes(rank, 2)

    def run_stages(request: Request, stop: StopRequest, *, processes: Processes, **_: Any) -> RunFolder:
        given.append(processes)
        write_json(folder.metrics, RESULT)
        return folder

    monkeypatch.setattr(command, "joined", joined)
    monkeypatch.setattr(command, "run_stages", run_stages)
    start(Request(config, "all", False, "quickstart.yaml"))
    assert given == [Processes(rank, 2)]
    shown = capsys.readouterr().out
    assert ("accuracy 0.5000" in shown) is (rank == 0)
    assert ("next: --stage verdict" in shown) is (rank == 0)


@pytest.mark.slow
def test_a_report_goes_by_the_settings_its_run_was_made_with(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Not by those of the command line, which may be another run's: another task, method, seed, approximation."""
    folder = RunFolder(tmp_path / "runs" / "elsewhere")
    shutil.copytree(finished_run("bert").root, folder.root)
    before = folder.config.read_bytes()
    for change in (("--hypergradient.type", "exact", "--seed", "7"), ("--method", "full")):
        folder.report.unlink()
        start(Request(tiny_config("--name", "elsewhere", *change), "report", False, "x"))
        page = folder.report.read_text()
        assert "LoRA ranks of" in page
        assert "hypergradient darts" in page
    assert folder.config.read_bytes() == before
    other = dataclasses.replace(tiny_config("--name", "elsewhere"), study=StudyConfig({"seed": [0, 1]}))
    folder.report.unlink()
    start(Request(other, "report", False, "x"))
    assert "hypergradient darts" in folder.report.read_text(), "a run, though a study was asked for"


@pytest.mark.trains
def test_a_report_is_drawn_where_its_run_could_not_be_trained(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(finished_run("bert").root, folder.root)
    ran = yaml.safe_load(folder.config.read_text())
    folder.config.write_text(yaml.safe_dump(ran | {"device": "mps", "precision": "bf16"}))
    folder.report.unlink()
    start(Request(tiny_config(), "report", False, "x"))
    assert folder.report.exists()


@pytest.mark.trains
@pytest.mark.parametrize(("asked", "told"), [("auto", "disabled"), ("disabled", "disabled"), ("offline", "offline")])
def test_a_report_is_told_to_wandb_as_its_run_was_unless_asked_otherwise(
    finished_run: Callable[..., RunFolder],
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    told: str,
) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(finished_run("bert").root, folder.root)
    drawn: list[Request] = []

    def run_stages(request: Request, *_: Any, **__: Any) -> RunFolder:
        drawn.append(request)
        return folder

    monkeypatch.setattr(command, "run_stages", run_stages)
    start(Request(tiny_config("--tracking.wandb", asked), "report", False, "x"))
    assert [request.config.tracking.wandb for request in drawn] == [told]


def test_a_report_of_a_run_that_was_moved_names_the_options_that_find_it(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config()
    moved = RunFolder(tmp_path / "other" / "place")
    write_text(moved.config, to_yaml(config))
    options = rf"if the run was moved, give also --name place --runs_folder {tmp_path}/other$"
    with pytest.raises(UserError, match=options):
        start(Request(config, "report", False, str(moved.config)))


BROKEN = {
    "not there": (None, r" does not exist, but a report needs it; --stage all writes it"),
    "empty": ("", "needs keys with values; holds null"),
    "a list": ("- a\n", "needs keys with values"),
    "no YAML": ("seed: [\n", "not readable as YAML"),
    "no text": (b"\xff\xfe", "not readable as YAML"),
    "another program's": ("sead: 3\n", "unknown key 'sead'; did you mean 'seed'"),
    "a wrong type": ("lora:\n  k: many\n", "lora.k"),
    "out of range": ("lora:\n  k: 0\n", "lora.k"),
    "a request to show": ("show: x\n", "holds a request to show or score"),
}


@pytest.mark.trains
@pytest.mark.parametrize("case", BROKEN)
def test_a_run_whose_config_is_broken_is_one_line(tiny_config: Callable[..., RunConfig], case: str) -> None:
    content, message = BROKEN[case]
    config = tiny_config()
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    write_json(folder.ranks, {"layers": [{"name": "a.0.query", "rank": 1}]})
    if content is not None:
        folder.config.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        start(Request(config, "report", False, "x"))
    assert str(folder.config) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not folder.report.exists()


@pytest.mark.slow
def test_the_report_of_a_study_goes_by_its_own_axes(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config("--search.steps", "2", "--retrain.max_steps", "1")
    made = dataclasses.replace(config, study=StudyConfig({"method": ["autolora", "lora"]}))
    start(Request(made, "all", False, "x"))
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    before = folder.config.read_bytes(), sorted(folder.cells.rglob("metrics.json"))
    elsewhere = dataclasses.replace(config, device="auto", precision="bf16")  # the cells ran in fp32 on the CPU
    for asked in (config, elsewhere, dataclasses.replace(config, seed=3, study=StudyConfig({"seed": [3]}))):
        start(Request(asked, "report", True, "x"))
        assert "method" in pd.read_parquet(folder.results)
    assert (folder.config.read_bytes(), sorted(folder.cells.rglob("metrics.json"))) == before
