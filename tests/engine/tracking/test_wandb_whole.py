"""Whole runs beside a wandb that keeps what it is told, or breaks."""

import json
from collections.abc import Callable

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.answer import find
from autolora.engine.ranks.grid import key_names, short_names
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.fake_wandb import fake_wandb
from tests.helpers.tiny import MEASURED


@pytest.mark.trains
def test_a_run_whose_wandb_breaks_ends_well(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    fake_wandb(monkeypatch, "log")
    config = tiny_config("--tracking.wandb", "online", "--search.steps", "2", "--retrain.max_steps", "1")
    folder = run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest())
    assert json.loads(folder.metrics.read_text())["steps"] == {"search": 2, "retrain": 1}
    assert sum("wandb is switched off" in line for line in log_lines) == 1


@pytest.mark.trains
def test_a_run_tells_wandb_alpha_ranks_losses_figures_and_the_result(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    more = ("--tracking.artifacts", "true", "--search.steps", "4", "--retrain.max_steps", "3")
    config = tiny_config(*MEASURED, "--tracking.wandb", "online", *more)
    folder = run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest())
    searched = [values for values in run.logged if "search/step" in values]
    assert [values["search/step"] for values in searched] == [2, 4]
    assert [values["search/rank_map"][0] for values in searched] == ["picture", "picture"]
    ranks = json.loads(folder.ranks.read_text())
    keys = key_names([layer["name"] for layer in ranks["layers"]])
    for key, layer in zip(keys, ranks["layers"], strict=True):
        assert searched[-1][f"rank/{key}"] == layer["rank"]
        assert [searched[-1][f"alpha/{key}/{j}"] for j in range(1, 5)] == layer["alpha"]
        assert any(values.get(f"answer/rank/{key}") == layer["rank"] for values in run.logged)
    assert not [key for values in run.logged for key in values if "." in key or " " in key], (
        "wandb reads dots as levels"
    )
    result = json.loads(folder.metrics.read_text())
    assert any(values.get("eval/accuracy") == result["metrics"]["accuracy"] for values in run.logged)
    charts = {key: chart for values in run.logged for key, chart in values.items() if key.startswith("trajectories/")}
    entropies = charts.pop("trajectories/entropy_of_alpha")
    assert entropies["title"] == "entropy of alpha"
    assert entropies["keys"] == short_names([layer["name"] for layer in ranks["layers"]])
    assert charts.keys() == {f"trajectories/{key}" for key in keys}
    for key, layer in zip(keys, ranks["layers"], strict=True):
        chart = charts[f"trajectories/{key}"]
        assert chart["xs"] == [0, 2, 4]
        assert [curve[-1] for curve in chart["ys"]] == pytest.approx(layer["alpha"])
    trained = [values for values in run.logged if "retrain/step" in values]
    curve = [json.loads(line) for line in folder.retrain_metrics.read_text().splitlines()]
    assert trained == [{f"retrain/{key}": value for key, value in point.items()} for point in curve]
    assert len(trained) == 3
    figures = sum(key.startswith("figures/") for values in run.logged for key in values)
    assert figures == len(list(folder.figures.iterdir())) > 4
    assert any("answer/gain" in values for values in run.logged)
    assert {(a.name, a.type): a.paths for a in run.artifacts} == {
        ("tiny-ranks", "ranks"): [folder.ranks],
        ("tiny-adapter", "model"): [folder.adapter],
    }
    assert run.options["job_type"] == "autolora/darts"
    assert {"sample", "autolora", "darts", "seed 0"} == set(run.options["tags"])
    assert run.summary["trainable_parameters"] == result["trainable_parameters"]
    assert run.exit_code == 0


def refused() -> None:
    raise UserError("--x: no")


def broken() -> None:
    raise RuntimeError("no")


def stopped() -> None:
    raise Interrupted(143)


@pytest.mark.trains
@pytest.mark.parametrize(("end", "code"), [(refused, 1), (broken, 1), (stopped, 255)])
def test_a_run_that_fails_or_is_stopped_is_not_shown_as_finished(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, end: Callable[[], None], code: int
) -> None:
    run = fake_wandb(monkeypatch)
    monkeypatch.setattr(find, "search", lambda run, wandb: end())
    request = Request(tiny_config("--tracking.wandb", "online"), "all", False, "tiny.yaml")
    with pytest.raises((UserError, RuntimeError, Interrupted)):
        run_stages(request, StopRequest())
    assert run.exit_code == code
