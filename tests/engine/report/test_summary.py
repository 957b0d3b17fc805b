"""The last words of a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.engine.report.summary import metric_words, print_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.terminal.console import console
from tests.helpers.finished import RESULT


@pytest.mark.trains
def test_result_ranks_and_paths_are_printed(
    finished_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 60)
    folder = finished_run("bert")
    print_result(folder)
    shown = capsys.readouterr().out
    result, record = json.loads(folder.metrics.read_text()), json.loads(folder.ranks.read_text())
    assert f"sample, {result['split']}: {metric_words(result)}  (" in " ".join(shown.split("\n"))
    assert result["standard_error"] > 0
    assert f"mean {record['mean_rank']:.2f} of k = 4" in shown
    for path in (folder.ranks, folder.adapter, folder.metrics, folder.report):
        assert str(path) in shown, "a path is never broken over two lines"


def test_the_main_metric_has_its_standard_error_and_single_classes_are_left_out() -> None:
    metrics = {"accuracy": 0.9123, "f1": 0.5, "protein.f1": 0.25}
    assert metric_words({"metrics": metrics, "standard_error": 0.0104}) == "accuracy 0.9123 +- 0.0104, f1 0.5000"


def test_what_is_not_there_is_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.ranks.write_text('{"layers": [{"name": "a.0.query", "rank": 2}]}')
    print_result(folder)
    shown = capsys.readouterr().out
    assert str(folder.ranks) in shown
    assert "adapter" not in shown
    assert "metrics.json" not in shown


def test_names_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 300)
    name = shown = "[/b][red]:smile:"
    folder = RunFolder(tmp_path / "[bold]:smile:")
    folder.root.mkdir()
    layers = [{"name": f"a.{block}.{name}", "rank": 2} for block in (0, 1)]
    folder.ranks.write_text(json.dumps({"layers": layers}))
    result = RESULT | {"task": name, "split": name, "metrics": {name.replace(".", ""): 0.5}}
    folder.metrics.write_text(json.dumps(result))
    print_result(folder)
    said = capsys.readouterr().out
    assert f"{shown}, {shown}: {shown} 0.5000" in " ".join(said.split())
    assert str(folder.metrics) in said
    assert f"{shown} " in said, "the row of the rank map"
