"""Every method through the one trainer: what it trains, records and exports, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autolora.configs.errors import UserError
from autolora.configs.facts import SEARCHING, WITHOUT_LORA
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import MethodName, RunConfig
from autolora.engine.command import run_request
from autolora.engine.disk.files import write_json
from autolora.engine.retrain.methods import METHODS
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models import bottleneck
from tests.helpers.methods import HEAD, LAYERS, LEARNED, NAMES, SIZE, Done, R
from tests.helpers.recomputed import of_sample


def test_the_configuration_names_every_method() -> None:
    assert set(METHODS) == set(get_args(MethodName)) == SEARCHING | set(WITHOUT_LORA) | {
        "lora", "lora_ranks", "lora_shuffled", "lora_random", "adalora", "eva", "para",
    }  # fmt: skip


def exported(run: Done) -> Any:
    """The model that the run wrote, loaded again."""
    if run.result["method"] == "adapter":
        return bottleneck.load(run.plain_base(), run.folder.adapter)
    if run.folder.adapter.exists():
        return PeftModel.from_pretrained(run.plain_base(), run.folder.adapter)
    return AutoModelForSequenceClassification.from_pretrained(run.folder.merged)


@pytest.mark.trains
@pytest.mark.parametrize("method", sorted(set(METHODS) - SEARCHING))
def test_each_method_trains_reports_and_counts(done: Callable[..., Done], method: str) -> None:
    result, folder = done(method).result, done(method).folder
    assert result["method"] == method
    accuracy, loss = of_sample(exported(done(method)), AutoTokenizer.from_pretrained(done(method).base))
    assert result["metrics"]["accuracy"] == accuracy
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["steps"] == {"search": None, "retrain": 16}
    assert (result["seconds"]["search"] is None) == (method != "eva"), "which looks for its ranks"
    assert method in folder.report.read_text()
    assert folder.ranks.exists() == (method not in WITHOUT_LORA)
    assert not folder.search.exists()
    assert not folder.retrain.exists()


@pytest.mark.trains
def test_parameter_counts(done: Callable[..., Done]) -> None:
    def counts(method: str) -> tuple[int, int]:
        result = done(method).result
        return result["lora_parameters"], result["trainable_parameters"]

    assert counts("lora") == (LAYERS * R * SIZE, LAYERS * R * SIZE + HEAD)
    for method in ("lora_ranks", "lora_shuffled", "lora_random"):
        assert counts(method) == (sum(LEARNED) * SIZE, sum(LEARNED) * SIZE + HEAD)
    assert counts("adalora") == (LAYERS * R * SIZE, LAYERS * 3 * (SIZE + 1) + HEAD)
    assert counts("adapter") == (0, 2 * 2 * (2 * 32 * 4 + 4 + 32 + 2 * 32) + HEAD)
    assert counts("head") == (0, HEAD)
    whole = done("full").plain_base()
    assert counts("full") == (0, sum(p.numel() for p in whole.parameters()))


@pytest.mark.slow
def test_a_study_over_methods(tiny_config: Callable[..., RunConfig]) -> None:
    import dataclasses

    from autolora.configs.schema import StudyConfig
    from autolora.engine.study.folder import StudyFolder

    axes = {"method": ["autolora", "lora", "lora_shuffled", "head", "full"]}
    cells = Path(tiny_config().runs_folder) / "tiny" / "cells"
    config = tiny_config("--lora.ranks_from", str(cells / "method-autolora" / "ranks.json"))
    run_request(Request(dataclasses.replace(config, study=StudyConfig(axes)), "all", False, "x"), StopRequest())
    folder = StudyFolder(Path(config.runs_folder) / "tiny")
    rows = pd.read_parquet(folder.results).set_index("method")
    assert list(rows.index) == axes["method"]
    assert sorted(rows.loc["lora_shuffled", "ranks"]) == sorted(rows.loc["autolora", "ranks"])
    assert rows.loc["full", "ranks"] is None
    assert rows.loc["full", "lora_parameters"] == 0
    assert "full" in folder.table.read_text()
    assert folder.report.exists()


def refused(config: RunConfig, stage: Any = "all") -> str:
    with pytest.raises(UserError) as caught:
        run_stages(Request(config, stage, False, "tiny.yaml"), StopRequest())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.trains
def test_what_the_model_or_the_folder_cannot_do_raises_a_user_error(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    assert refused(tiny_config("--method", "lora"), "search").startswith("--stage: 'search' is not allowed for")
    assert "metrics.json does not exist" in refused(tiny_config("--method", "full"), "report")
    assert "model of type gpt2" in refused(tiny_config("--method", "adapter", kind="gpt2"))
    nowhere = ("--method", "lora_shuffled", "--lora.ranks_from", str(tmp_path / "none.json"))
    assert "none.json does not exist" in refused(tiny_config(*nowhere))
    short = ["--method", "adalora", "--retrain.max_steps", "null", "--retrain.epochs", "1"]
    assert "gives 8 optimiser steps" in refused(tiny_config(*short))
    assert "matches no module" in refused(tiny_config("--method", "lora", "--lora.target_modules", "[nothing]"))
    assert "rank 99" in refused(tiny_config("--method", "lora", "--lora.r", "99"))


@pytest.mark.trains
def test_a_folder_with_another_methods_ranks_is_left_alone(
    tiny_config: Callable[..., RunConfig], done: Callable[..., Done]
) -> None:
    config = tiny_config()
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    for rule, method in (("threshold", "lora"), ("uniform", "autolora"), ("threshold", "full")):
        write_json(folder.ranks, {"rule": rule, "layers": [{"name": NAMES[0], "rank": 1}]})
        before = folder.ranks.read_text()
        assert f"holds ranks of rule '{rule}'" in refused(tiny_config("--method", method), "retrain")
        assert folder.ranks.read_text() == before


def test_the_default_method_is_autolora() -> None:
    assert parse(["--config", "quickstart.yaml"]).config.method == "autolora"
