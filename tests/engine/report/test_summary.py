"""The last words of a run."""

import json
from collections.abc import Callable

import pytest

from autolora.engine.report.summary import metric_words, print_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.terminal.console import console


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
