"""lora_config/ and the fields of ranks.json: what PEFT trains from them has the recorded ranks and scales."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from autolora.configs.requests import Request
from autolora.configs.schema import LoraSettings, ModelConfig, RetrainConfig, RunConfig
from autolora.engine import ranks
from autolora.engine.export.lora_config import adapter_config, attach_ranks, hub_name, save_lora_config
from autolora.engine.export.names import what_parts_lose
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from autolora.problems.models.load import load_base
from tests.helpers.exports import of_mean_rank, scales_of
from tests.helpers.generation_toys import make_causal

NAMES = ("h.0.attn.c_attn.q", "h.0.attn.c_attn.v", "h.1.attn.c_attn.q", "h.1.attn.c_attn.v")


class OfOneType:
    """All that `adapter_config` asks of a task."""

    peft_type = TaskType.CAUSAL_LM


def saved(folder: Path, config: RunConfig, kept: dict[str, int], k: int = 8) -> dict[str, Any]:
    """adapter_config.json of lora_config/ at these ranks."""
    record = ranks.RankRecord(k, tuple(ranks.LayerRank(name, rank) for name, rank in kept.items()))
    task: Any = OfOneType()
    save_lora_config(adapter_config(config, record, task, []), record, folder, config)
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


@pytest.mark.trains
def test_peft_trains_a_language_model_from_it_at_the_recorded_ranks(chat_search: tuple[RunFolder, Path]) -> None:
    folder, base = chat_search
    record = ranks.load(folder.ranks)
    assert 0 < len(record.kept) < len(record.layers), "a layer is dropped"
    assert len(set(record.kept.values())) > 1, "the ranks differ"
    settings = LoraConfig.from_pretrained(folder.lora_config)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == record.kept
    assert scales_of(model) == of_mean_rank(record.kept, 6, 4)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(record.kept)
    ids = torch.arange(12)[None]
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimiser = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    assert all(not torch.equal(before[name], p) for name, p in trained.items())


@pytest.mark.trains
def test_ranks_json_says_scale_and_base(chat_search: tuple[RunFolder, Path]) -> None:
    raw = json.loads(chat_search[0].ranks.read_text())
    assert {key: raw[key] for key in ("lora_alpha", "scale", "base_model", "revision")} == {
        "lora_alpha": 6.0, "scale": "mean_rank", "base_model": None, "revision": None,
    }  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_it_names_no_path_of_this_machine_and_is_to_be_trained(
    finished_run: Callable[..., RunFolder], kind: str, model_folder: Callable[..., Path]
) -> None:
    folder = finished_run(kind)
    raw = json.loads((folder.lora_config / "adapter_config.json").read_text())
    text = "".join(path.read_text() for path in folder.lora_config.iterdir())
    assert str(model_folder(kind)) not in text
    assert str(folder.root) not in text
    assert (raw["base_model_name_or_path"], raw["inference_mode"], raw["task_type"]) == (None, False, "SEQ_CLS")
    assert raw["modules_to_save"] is None, "PEFT adds the class head by itself"
    assert raw["fan_in_fan_out"] is (kind == "gpt2")
    base = AutoModelForSequenceClassification.from_pretrained(model_folder(kind), num_labels=2)
    model = get_peft_model(base, LoraConfig.from_pretrained(folder.lora_config))
    found = {name: layer.r["default"] for name, layer in lora_layers(model).items()}
    assert found == ranks.load(folder.ranks).kept
    head = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert head
    assert all("modules_to_save" in name for name in head)


@pytest.mark.trains
@pytest.mark.parametrize("method", ["autolora", "lora_grid"])
def test_every_search_writes_it_with_the_modules_that_are_trained_whole(
    tiny_config: Callable[..., RunConfig], method: str
) -> None:
    few = ("--search.steps", "2", "--answer.rows", "0", "--lora.grid", "[1,2]", "--retrain.max_steps", "1")
    config = tiny_config("--method", method, "--lora.modules_to_save", "[pooler]", *few)
    folder = run_stages(Request(config, "search", False, "x"), StopRequest(), draw=False)
    settings = LoraConfig.from_pretrained(folder.lora_config)
    record = ranks.load(folder.ranks)
    assert settings.rank_pattern == record.kept
    assert settings.modules_to_save == ["bert.pooler"], "by its full name"
    assert (record.lora_alpha, record.scale) == (config.lora.lora_alpha, "mean_rank")


@pytest.mark.trains
def test_a_retraining_at_edited_ranks_writes_it_anew(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--search.steps", "2", "--answer.rows", "0")
    folder = run_stages(Request(config, "search", False, "x"), StopRequest(), draw=False)
    raw = json.loads(folder.ranks.read_text())
    for layer, rank in zip(raw["layers"], (0, 1, 2, 7), strict=True):
        layer["rank"] = rank
    folder.ranks.write_text(json.dumps(raw))
    run_stages(Request(config, "retrain", False, "x"), StopRequest(), draw=False)
    assert LoraConfig.from_pretrained(folder.lora_config).rank_pattern == ranks.load(folder.ranks).kept


def test_alphas_are_whole_numbers_where_they_can_be(tmp_path: Path) -> None:
    component = dataclasses.replace(RunConfig(name="a"), retrain=RetrainConfig(scale="component"))
    found = saved(tmp_path, component, {"x.q": 3, "x.v": 8, "y.q": 0})
    assert json.dumps(found["alpha_pattern"]) == '{"x.q": 6, "x.v": 16}'
    assert json.dumps(found["lora_alpha"]) == "16"
    assert found["target_modules"] == ["x.q", "x.v"]
    other = dataclasses.replace(component, lora=LoraSettings(lora_alpha=4.0))
    found = saved(tmp_path, other, {"x.q": 3, "x.v": 8})
    assert json.dumps(found["alpha_pattern"]) == '{"x.q": 1.5, "x.v": 4}'
    fixed = dataclasses.replace(other, retrain=RetrainConfig(scale="fixed"))
    found = saved(tmp_path, fixed, {"x.q": 3, "x.v": 8})
    assert (found["alpha_pattern"], json.dumps(found["lora_alpha"])) == ({}, "4")


def test_mean_rank_gives_one_scale_that_grows_as_ranks_get_fewer(tmp_path: Path) -> None:
    """With one scale for all, programs that read only r and lora_alpha are right about every layer."""
    config = RunConfig(name="a")
    assert config.retrain.scale == "mean_rank"
    found = saved(tmp_path, config, {"x.q": 3, "x.v": 1, "y.q": 0}, k=8)  # mean 2 over the layers that keep LoRA
    assert found["alpha_pattern"] == {"x.q": 3 * 4.0, "x.v": 4.0}, "16 / sqrt(8 * 2) = 4"
    assert found["lora_alpha"] == 3 * 4.0
    readme = (tmp_path / "README.md").read_text()
    assert "one scale, lora_alpha / sqrt(k x mean rank) = 4, with the mean over the layers" in readme
    found = saved(tmp_path, config, {"x.q": 8, "x.v": 8}, k=8)
    assert json.dumps(found["alpha_pattern"]) == '{"x.q": 16, "x.v": 16}', "at rank k that of the search"
    found = saved(tmp_path, config, {"x.q": 2, "x.v": 2}, k=8)
    assert found["lora_alpha"] / 2 == 4.0


@pytest.mark.trains
def test_the_scale_of_rslora_is_peft_s_own(tmp_path: Path) -> None:
    """In lora_config/ alpha_pattern holds it; PEFT's use_rslora computes the same of lora_alpha."""
    config = dataclasses.replace(RunConfig(name="a"), retrain=RetrainConfig(scale="rslora"))
    kept = {f"transformer.h.{i}.attn.c_attn": rank for i, rank in enumerate((2, 7))}
    saved(tmp_path, config, kept)
    assert "lora_alpha / sqrt(rank)" in (tmp_path / "README.md").read_text()
    mine = get_peft_model(make_causal("gpt2", 20), LoraConfig.from_pretrained(tmp_path))
    given: Any = {"r": 7, "lora_alpha": 16, "rank_pattern": kept, "target_modules": list(kept), "use_rslora": True}
    theirs = get_peft_model(make_causal("gpt2", 20), LoraConfig(task_type="CAUSAL_LM", **given))
    assert scales_of(mine) == pytest.approx(scales_of(theirs), rel=1e-12)
    assert list(scales_of(mine).values()) == pytest.approx([16 / 2**0.5, 16 / 7**0.5])


def test_the_base_is_named_as_another_machine_finds_it(tmp_path: Path) -> None:
    for name, hub, revision in (
        ("org/model", "org/model", "v1"),
        ("org/model/file.Q4_1.gguf", "org/model", None),
        ("package:some_package/model", None, None),
        (str(tmp_path), None, None),
    ):
        model = ModelConfig(name=name, revision=revision)
        assert hub_name(model) == hub
        found = saved(tmp_path / "x", dataclasses.replace(RunConfig(name="a"), model=model), {"x.q": 3})
        assert (found["base_model_name_or_path"], found["revision"]) == (hub, revision)


def test_what_is_lost_of_parts_is_said(tmp_path: Path) -> None:
    found = saved(tmp_path, RunConfig(name="a"), dict(zip(NAMES, (3, 2, 0, 1), strict=True)))
    assert found["rank_pattern"] == {"h.0.attn.c_attn": 5, "h.1.attn.c_attn": 1}
    text = (tmp_path / "README.md").read_text()
    assert "in h.0.attn.c_attn q 3 + v 2 = rank 5" in text
    assert "other trainers train all of B, three times as many numbers" in text
    whole = ranks.RankRecord(8, (ranks.LayerRank("h.0.attn.c_attn", 3),))
    assert what_parts_lose(whole) == ""


def test_a_rank_that_peft_did_not_apply_raises(
    make_config: Callable[..., RunConfig], tmp_path: Path, run_of: Callable[..., Context]
) -> None:
    config = make_config(tmp_path, "bert")
    run = run_of(config)
    run.task.rows()
    base = load_base(config.model, run.task.auto_class, **run.task.head())
    names = [f"bert.encoder.layer.{i}.attention.self.query" for i in (0, 1)]
    record = ranks.RankRecord(4, tuple(ranks.LayerRank(name, 2 + i) for i, name in enumerate(names)))
    wrong = adapter_config(config, record, run.task, base.trained_whole)
    wrong.rank_pattern = {"no.such.layer": 2}
    with pytest.raises(RuntimeError, match="PEFT did not apply the recorded ranks"):
        attach_ranks(base.model, wrong, record)
