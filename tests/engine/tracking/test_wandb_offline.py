"""A whole run and a whole study with the real wandb, offline, read back from its files by its own protobufs."""

import dataclasses
import importlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.command import run_request
from autolora.engine.ranks.grid import key_names
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.half_done import stop_half_way
from tests.helpers.tiny import MEASURED
from tests.helpers.wandb_file import OfflineRun

pytestmark = pytest.mark.slow

SEARCH = {
    "step", "train_loss", "val_loss", "implicit_to_direct", "cosine", "seconds", "mean_rank", "mean_entropy",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_wandb_left_behind() -> Iterator[None]:
    """wandb's process would serve the forks of later tests, which then have none of their own."""
    yield
    importlib.import_module("wandb").teardown()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


def finished(folder: Path, last_words: Callable[[OfflineRun], bool]) -> OfflineRun:
    """The run once wandb's own process has written its end, which may be a moment after `finish` has returned."""
    end = time.monotonic() + 60
    while not last_words(run := OfflineRun(folder)):
        assert time.monotonic() < end, "wandb did not write its last records"
        time.sleep(0.1)
    return run


def test_every_promised_key_of_a_run_is_there(tiny_config: Callable[..., RunConfig]) -> None:
    more = ("--tracking.artifacts", "true", "--search.steps", "6", "--search.log_every", "2")
    config = tiny_config(*MEASURED, "--tracking.wandb", "offline", *more)
    folder = run_stages(Request(config, "all", False, "x"), StopRequest())
    run = finished(folder.root, lambda run: run.exit_code is not None)
    record, result = json.loads(folder.ranks.read_text()), json.loads(folder.metrics.read_text())
    names = key_names([layer["name"] for layer in record["layers"]])
    points = [values for values in run.history if "search/train_loss" in values]
    assert [values["search/step"] for values in points] == [2, 4, 6]
    for values in points:
        assert {f"search/{key}" for key in SEARCH} <= values.keys()
        assert {f"{kind}/{name}" for kind in ("rank", "entropy") for name in names} <= values.keys()
        numbered = {f"{kind}/{n}/{j}" for kind in ("alpha", "contribution") for n in names for j in range(1, 5)}
        assert numbered <= values.keys()
    for name, layer in zip(names, record["layers"], strict=True):
        assert [points[-1][f"alpha/{name}/{j}"] for j in range(1, 5)] == pytest.approx(layer["alpha"])
        assert points[-1][f"rank/{name}"] == layer["rank"]
    # The slider: one key, a picture at several steps.
    pictures = [run.media(values["search/rank_map"]) for values in points]
    assert len({path.name for path in pictures}) == 3
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 30
    for name in names:
        (chart,) = [v for values in run.history for k, v in values.items() if k.endswith(f"trajectories/{name}_table")]
        table = json.loads(run.media(chart).read_text())
        assert len(table["data"]) == 4 * 4, "four components at steps 0, 2, 4 and 6"
    shown = {key for values in run.history for key in values if key.startswith("figures/")}
    # A run this short may have learned nothing, of which there are neither a curve nor shares.
    always = {"rank_map", "trajectories", "rank_evolution", "losses", "retrain_loss"}
    assert shown - {"figures/curve", "figures/shares"} == {f"figures/{name}" for name in always}
    (answered,) = [values for values in run.history if "answer/gain" in values]
    assert answered["answer/gain"] == pytest.approx(record["gain"])
    assert [answered[f"share/{name}"] for name in names] == pytest.approx(
        [layer["layer_share"] for layer in record["layers"]]
    )
    assert [values["retrain/step"] for values in run.history if "retrain/loss" in values] == [1, 2, 3, 4]
    assert run.summary["metrics"] == result["metrics"]
    assert run.exit_code == 0
    assert run.artifacts.keys() >= {"tiny-ranks", "tiny-adapter"}
    sent = {entry.path for entry in run.artifacts["tiny-adapter"].manifest.contents}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= sent
    assert (run.run.job_type, run.run.display_name) == ("autolora/darts", "tiny")
    for kind in ("alpha", "contribution", "entropy", "rank", "share"):
        metric = run.metrics[f"{kind}/*"]
        assert metric.step_metric == "search/step"
        assert metric.options.hidden, "a chart for each number would bury the dashboard"
        assert metric.summary.none == (kind != "share"), "wandb shows 500 columns of the summary"
    assert run.metrics["retrain/*"].step_metric == "retrain/step"


def test_a_study_is_a_group_with_a_run_of_its_own(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    more = ("--tracking.artifacts", "true", "--search.steps", "2", "--retrain.max_steps", "1")
    config = tiny_config("--tracking.wandb", "offline", *more)
    config = dataclasses.replace(config, study=StudyConfig({"method": ["autolora", "lora"]}))
    run_request(Request(config, "all", False, "study.yaml"), StopRequest())
    root = tmp_path / "runs" / "tiny"
    whole = finished(root, lambda run: "tiny-results" in run.artifacts)
    assert (whole.run.run_group, whole.run.job_type) == ("tiny", "study")
    values = {key: value for logged in whole.history for key, value in logged.items()}
    table = json.loads(whole.media(values["study/results"]).read_text())
    expected = pd.read_parquet(root / "results.parquet")
    assert table["columns"] == list(expected.columns)
    assert [row[0] for row in table["data"]] == ["autolora", "lora"]
    assert "study/summary" in values
    assert whole.media(values["figures/metric"]).exists()
    for method in ("autolora", "lora"):
        cell = OfflineRun(RunFolder(root / "cells" / f"method-{method}").root)
        assert cell.run.run_group == "tiny"
        assert cell.run.job_type.split("/")[0] == method
        assert method in cell.run.tags


def test_a_run_that_was_stopped_ends_as_one(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--tracking.wandb", "offline")
    stop_half_way(config)
    root = Path(config.runs_folder) / "tiny"
    assert finished(root, lambda run: run.exit_code is not None).exit_code == 255
