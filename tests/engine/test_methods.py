"""Every method through the one trainer: what it trains, records and exports, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from configs.cli import Request, parse
from configs.errors import UserError
from configs.rules import SEARCHING, WITHOUT_LORA
from configs.schema import MethodName, RunConfig
from engine import ranks
from engine.command import run_request
from engine.interrupt import StopRequest
from engine.methods import METHODS
from engine.run_folder import RunFolder, write_json
from engine.stages import run_stages
from problems import bottleneck

# A width of 32: one rank-1 component of a layer has 64 numbers, the head 66.
SIZE, HEAD, LAYERS, R, K = 64, 66, 4, 2, 4
NAMES = [f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")]
LEARNED = [1, 4, 2, 3]


@dataclass
class Done:
    """A finished run, and the logits of its model before anything was written."""

    base: Path
    folder: RunFolder
    batch: Any
    logits: torch.Tensor
    result: dict[str, Any]

    def plain_base(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=2)

    def logits_of(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(**self.batch).logits


def run(config: RunConfig, base: Path) -> Done:
    tokenizer = AutoTokenizer.from_pretrained(base)
    batch = dict(tokenizer(["the film is dull .", "our room was not noisy ."], padding=True, return_tensors="pt"))
    done = Done(base, RunFolder(Path(config.runs_folder) / str(config.name)), batch, torch.zeros(0), {})
    method = type(METHODS[config.method])
    original = method.save

    def keep(self: Any, prepared: Any, setting: Any) -> Any:
        done.logits = done.logits_of(prepared.model)
        return original(self, prepared, setting)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "save", keep)
        run_request(Request(config, "all", False, "tiny.yaml"), StopRequest())
    done.result = json.loads(done.folder.metrics.read_text())
    return done


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ranks as another run's search would have left them; seed 0 of this run asks for them."""
    path = tmp_path_factory.mktemp("learned") / "sample-0.json"
    write_json(path, {"k": K, "layers": [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]})
    return path.with_name("{task}-{seed}.json")


@pytest.fixture(scope="module")
def done(
    learned: Path,
    model_folder: Callable[..., Path],
    make_config: Callable[..., RunConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Done]:
    made: dict[tuple[str, ...], Done] = {}

    def make(method: str, *arguments: str) -> Done:
        key = (method, *arguments)
        if key not in made:
            values = ["--method", method, "--lora.r", str(R), "--lora.ranks_from", str(learned), *arguments]
            values += ["--retrain.max_steps", "16", "--retrain.learning_rate", "3e-2", "--lora.lora_alpha", "6"]
            made[key] = run(make_config(tmp_path_factory.mktemp(method), "bert", *values), model_folder("bert"))
        return made[key]

    return make


def test_the_configuration_names_every_method() -> None:
    assert set(METHODS) == set(get_args(MethodName)) == SEARCHING | set(WITHOUT_LORA) | {
        "lora", "lora_shuffled", "lora_random", "adalora",
    }  # fmt: skip


@pytest.mark.parametrize("method", sorted(set(METHODS) - SEARCHING))
def test_each_method_trains_reports_and_counts(done: Callable[..., Done], method: str) -> None:
    result, folder = done(method).result, done(method).folder
    assert result["method"] == method
    assert 0 <= result["metrics"]["accuracy"] <= 1
    assert result["steps"] == {"search": None, "retrain": 16}
    assert result["seconds"]["search"] is None
    assert method in folder.report.read_text()
    assert folder.ranks.exists() == (method not in WITHOUT_LORA)
    assert not folder.search.exists()
    assert not folder.retrain.exists()


def test_parameter_counts(done: Callable[..., Done]) -> None:
    def counts(method: str) -> tuple[int, int]:
        result = done(method).result
        return result["lora_parameters"], result["trainable_parameters"]

    assert counts("lora") == (LAYERS * R * SIZE, LAYERS * R * SIZE + HEAD)
    for method in ("lora_shuffled", "lora_random"):
        assert counts(method) == (sum(LEARNED) * SIZE, sum(LEARNED) * SIZE + HEAD)
    assert counts("adalora") == (LAYERS * R * SIZE, LAYERS * 3 * (SIZE + 1) + HEAD)
    assert counts("adapter") == (0, 2 * 2 * (2 * 32 * 4 + 4 + 32 + 2 * 32) + HEAD)
    whole = done("full").plain_base()
    assert counts("full") == (0, sum(p.numel() for p in whole.parameters()))


@pytest.mark.parametrize("method", ["lora", "lora_shuffled", "lora_random", "adalora"])
def test_plain_peft_gives_the_runs_logits_at_the_scale_of_autolora(done: Callable[..., Done], method: str) -> None:
    run = done(method)
    model = PeftModel.from_pretrained(run.plain_base(), run.folder.adapter)
    torch.testing.assert_close(run.logits_of(model), run.logits, rtol=1e-5, atol=1e-6)
    assert run.logits.std() > 1e-3
    settings = json.loads((run.folder.adapter / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    kept = ranks.load(run.folder.ranks).kept
    for name, rank in kept.items():
        assert settings["rank_pattern"].get(name, settings["r"]) == rank
        assert settings["alpha_pattern"].get(name, settings["lora_alpha"]) / rank == pytest.approx(6 / K)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.allclose(run.logits_of(model), run.logits, atol=1e-4), "LoRA does something"


def test_uniform_ranks(done: Callable[..., Done]) -> None:
    record = ranks.load(done("lora").folder.ranks)
    assert (record.rule, record.k) == ("uniform", K)
    assert [(x.name, x.rank, x.alpha, x.contribution) for x in record.layers] == [(n, R, (), ()) for n in NAMES]


def test_shuffled_ranks_are_the_learned_ones_in_other_places(done: Callable[..., Done]) -> None:
    record = ranks.load(done("lora_shuffled").folder.ranks)
    found = [layer.rank for layer in record.layers]
    assert record.rule == "shuffled"
    assert [layer.name for layer in record.layers] == NAMES
    assert sorted(found) == sorted(LEARNED)
    assert found != LEARNED


def test_full_fine_tuning_leaves_a_whole_model(done: Callable[..., Done]) -> None:
    run = done("full")
    assert not run.folder.adapter.exists()
    model = AutoModelForSequenceClassification.from_pretrained(run.folder.merged)
    torch.testing.assert_close(run.logits_of(model), run.logits)
    before = run.plain_base().state_dict()
    same = [n for n, value in model.state_dict().items() if n in before and torch.equal(value, before[n])]
    assert all("position" in n or "key.bias" in n for n in same), "every weight that the loss sees has moved"
    assert AutoTokenizer.from_pretrained(run.folder.merged).pad_token == "<pad>"


def test_the_bottleneck_adapter_loads_to_the_runs_logits(done: Callable[..., Done]) -> None:
    run = done("adapter")
    model = bottleneck.load(run.plain_base(), run.folder.adapter)
    assert torch.equal(run.logits_of(model), run.logits)
    assert not torch.allclose(run.logits_of(run.plain_base()), run.logits, atol=1e-4)
    saved = load_file(run.folder.adapter / bottleneck.WEIGHTS)
    assert sum(value.numel() for value in saved.values()) == run.result["trainable_parameters"]


def test_a_study_over_methods(tiny_config: Callable[..., RunConfig]) -> None:
    import dataclasses

    from configs.schema import StudyConfig
    from engine.study_folder import StudyFolder

    axes = {"method": ["autolora", "lora", "lora_shuffled", "full"]}
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


REFUSED = [
    (("--method", "lora_shuffled"), r"^--lora\.ranks_from: null .* lora_shuffled; allowed: a ranks\.json"),
    (("--method", "prefix"), r"^--method: 'prefix' is not allowed; allowed: autolora, lora, "),
    (("--method", "lora", "--lora.r", "0"), r"^--lora\.r: 0 is not allowed; allowed: 1 to 1024"),
    (("--method", "lora", "--retrain.init", "search"), r"^--retrain\.init: 'search' .* lora; allowed: scratch"),
    (("--method", "adalora"), r"^--retrain\.max_steps: 4 is not allowed for --method adalora; allowed: 10 or more"),
    (("--method", "full", "--export.padded", "true"), r"^--export\.padded: true .* full, which has no LoRA"),
    (("--method", "adapter", "--export.merged", "true"), r"^--export\.merged: true .* cannot be merged"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=lambda value: "-".join(value[1:]) if value else "")
def test_what_cannot_work_is_refused_before_a_model_is_loaded(
    tiny_config: Callable[..., RunConfig], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        tiny_config(*arguments)
    assert "\n" not in str(refused.value)


def refused(config: RunConfig, stage: Any = "all") -> str:
    with pytest.raises(UserError) as caught:
        run_stages(Request(config, stage, False, "tiny.yaml"), StopRequest())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_the_model_or_the_folder_cannot_do_is_one_line(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    assert refused(tiny_config("--method", "lora"), "search").startswith("--stage: 'search' is not allowed for")
    assert "metrics.json does not exist" in refused(tiny_config("--method", "full"), "report")
    assert "model of type gpt2" in refused(tiny_config("--method", "adapter", kind="gpt2"))
    nowhere = ("--method", "lora_shuffled", "--lora.ranks_from", str(tmp_path / "none.json"))
    assert "none.json: not readable" in refused(tiny_config(*nowhere))
    short = ["--method", "adalora", "--retrain.max_steps", "null", "--retrain.epochs", "1"]
    assert "they make 8 optimiser steps" in refused(tiny_config(*short))
    assert "matches no module" in refused(tiny_config("--method", "lora", "--lora.target_modules", "[nothing]"))
    assert "rank 99" in refused(tiny_config("--method", "lora", "--lora.r", "99"))


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
