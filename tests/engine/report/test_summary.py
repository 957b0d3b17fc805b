"""The last words of a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.files import to_yaml
from configs.parser import parse
from configs.requests import Request
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import write_text
from engine.report.summary import next_command, print_result, verdict_line
from engine.run.folder import RunFolder
from engine.terminal.console import console
from tests.engine.report.test_controls import put, result_of
from tests.helpers.rank_records import answered_record


@pytest.mark.trains
def test_result_ranks_and_paths_are_printed(
    finished_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 60)
    folder = finished_run("bert")
    print_result(folder)
    shown = capsys.readouterr().out
    result, record = json.loads(folder.metrics.read_text()), json.loads(folder.ranks.read_text())
    assert f"accuracy {result['metrics']['accuracy']:.4f}" in shown
    assert f"mean {record['mean_rank']:.2f} of k = 4" in shown
    for path in (folder.ranks, folder.adapter, folder.metrics, folder.report, folder.trajectory):
        assert str(path) in shown, "a path is never broken over two lines"


def test_what_is_not_there_is_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.ranks.write_text('{"layers": [{"name": "a.0.query", "rank": 2}]}')
    print_result(folder)
    shown = capsys.readouterr().out
    assert str(folder.ranks) in shown
    assert "adapter" not in shown
    assert "metrics.json" not in shown


@pytest.mark.parametrize("stage", ["all", "search"])
@pytest.mark.parametrize("source", ["null", "runs/other"])
def test_the_command_to_try_next_is_one_that_parses(
    tiny_config: Callable[..., RunConfig], stage: str, source: str
) -> None:
    config = tiny_config("--task.train_rows", "33", "--answer.from", source)
    write_text(RunFolder(Path(config.runs_folder) / "tiny").config, to_yaml(config))
    command = next_command(Request(config, stage, False, "quickstart.yaml"))  # type: ignore[arg-type]
    program, script, *arguments = command.split()
    assert (program, script) == ("python", "run.py")
    request = parse(arguments)
    assert request.config.task.train_rows == 33, "what was said on the command line holds"
    assert request.stage == ("retrain" if stage == "search" else "all")
    assert (request.config.name == "tiny") is (stage == "search"), "another run gets another folder"
    assert stage == "search" or request.config.answer.from_run is None, "another hypergradient is another search"


def test_the_last_words_show_the_controls_and_how_to_make_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 100)
    folder = RunFolder(tmp_path / "mine")
    folder.search.mkdir(parents=True)
    ranks.save(answered_record(), folder.ranks)
    folder.search_summary.write_text('{"parameters_per_rank": {"a": 100, "b": 200}}')
    more = {"task": "t", "split": "test", "trainable_parameters": 900, "seconds": {"total": 1.0}}
    put(tmp_path, "mine", result_of() | more | {"lora_parameters": 1200})
    print_result(folder)
    said = capsys.readouterr().out
    assert "not run yet, uniform ranks: 4 in every layer (1,200 LoRA parameters, this run 1,200):" in said
    assert f"--name mine-shuffled --method lora_shuffled --lora.ranks_from {folder.ranks}\n" in said, "in one line"
    assert "this run (" not in said, "alone it is no comparison"
    put(tmp_path, "even", result_of("lora", 0.25, lora__r=4))
    print_result(folder)
    said = capsys.readouterr().out
    assert "this run (autolora)  f1 0.5000, loss 0.7000 (0.6000 at a fitted temperature), 1,200 LoRA" in said
    assert "uniform, rank 4      f1 0.2500" in said
    assert "mine-uniform" not in said


def test_the_ranks_that_are_not_decided_are_marked_in_the_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    ranks.save(answered_record(), folder.ranks)
    print_result(folder)
    said = capsys.readouterr().out
    assert "value 1?" in said
    assert "with ?: not decided within this search" in said


def test_names_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 300)
    name, shown = "[/b][red]:smile:\x1b[31m", r"[/b][red]:smile:\x1b[31m"
    folder = RunFolder(tmp_path / "[bold]:smile:")
    folder.root.mkdir()
    layers = [{"name": f"a.{block}.{name}", "rank": 2} for block in (0, 1)]
    folder.ranks.write_text(json.dumps({"layers": layers}))
    result = {
        "task": name, "split": name, "metrics": {name.replace(".", ""): 0.5}, "lora_parameters": 0,
        "trainable_parameters": 1, "seconds": {"total": 1.0},
    }  # fmt: skip
    folder.metrics.write_text(json.dumps(result))
    print_result(folder)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert f"{shown} {shown}: {shown} 0.5000" in " ".join(said.split())
    assert str(folder.metrics) in said
    assert f"{shown} " in said, "the row of the rank map"


def test_another_hypergradient_is_proposed_than_the_search_had(tiny_config: Callable[..., RunConfig]) -> None:
    for had, other in {"darts": "first_order", "first_order": "none"}.items():
        request = Request(tiny_config("--hypergradient.type", had), "all", False, "quickstart.yaml")
        assert next_command(request).endswith(f"--hypergradient.type {other}")


@pytest.mark.parametrize(("seconds", "said"), [(3.0, ""), (60.0, " --verdict.minutes 20")])
def test_the_verdict_is_named_with_its_time_until_it_is_there(
    tiny_config: Callable[..., RunConfig], seconds: float, said: str
) -> None:
    config = tiny_config()
    folder = RunFolder.of(config)
    request = Request(config, "all", False, "quickstart.yaml")
    assert verdict_line(request) == ""
    folder.root.mkdir(parents=True)
    ranks.save(answered_record(), folder.ranks)
    write_text(folder.config, to_yaml(config))
    assert verdict_line(request) == f"python run.py --config {folder.config} --stage verdict"
    sweep = Request(tiny_config("--retrain.learning_rates", "[1e-3, 1e-2]"), "search", False, "quickstart.yaml")
    assert verdict_line(sweep) == "", "a verdict is refused until the retraining has chosen a rate"
    folder.metrics.write_text(json.dumps({"metrics": {"a": 1}, "seconds": {"retrain": seconds, "total": 9.0}}))
    assert verdict_line(sweep)
    minutes = round(seconds * 20 / 60)
    line = verdict_line(request)
    assert line == f"python run.py --config {folder.config} --stage verdict{said}   (8 pairs: about {minutes} minutes)"
    assert parse(line.partition("   (")[0].split()[2:]).stage == "verdict"
    folder.verdict_summary.write_text("{}")
    assert verdict_line(request) == ""
