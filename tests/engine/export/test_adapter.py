"""The adapter in other hands: plain PEFT gives the run's own logits, in every exported form, for four families."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from configs.requests import Request
from configs.schema import RunConfig
from engine import export
from engine.disk.files import write_json
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.stages import run_stages
from problems.models.attach import attach
from tests.helpers.generation_toys import make_causal, make_tokenizer

# Ranks of every kind: none, one, less than k, more than k; a layer that the search's targets do not name.
RANKS = {
    "bert": {
        "bert.encoder.layer.0.attention.self.query": 0,
        "bert.encoder.layer.0.attention.self.value": 1,
        "bert.encoder.layer.1.attention.self.query": 3,
        "bert.encoder.layer.1.output.dense": 6,
    },
    "roberta": {
        "roberta.encoder.layer.0.attention.self.query": 2,
        "roberta.encoder.layer.1.attention.self.query": 0,
        "roberta.encoder.layer.1.attention.self.value": 5,
    },
    "gpt2": {"transformer.h.0.attn.c_attn": 3, "transformer.h.1.attn.c_attn": 0, "transformer.h.1.mlp.c_fc": 5},
    "llama": {
        "model.layers.0.self_attn.q_proj": 1,
        "model.layers.0.self_attn.v_proj": 0,
        "model.layers.1.self_attn.v_proj": 4,
    },
}
K, LORA_ALPHA = 4, 6.0


@dataclass
class Exported:
    kind: str
    scale: str
    base: Path
    folder: RunFolder
    batch: dict[str, Tensor]
    logits: Tensor
    """Of the run's own model, before it was written."""

    def plain_base(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=2)

    def logits_of(self, model: Any) -> Tensor:
        with torch.no_grad():
            return model.eval()(**self.batch).logits


def make_export(config: RunConfig, kind: str, base: Path) -> Exported:
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    layers = [{"name": name, "rank": rank} for name, rank in RANKS[kind].items()]
    write_json(folder.ranks, {"k": K, "layers": layers})
    tokenizer = AutoTokenizer.from_pretrained(base)
    batch = dict(tokenizer(["the film is dull .", "our room was not noisy ."], padding=True, return_tensors="pt"))
    made = Exported(kind, config.retrain.scale, base, folder, batch, torch.zeros(0))
    original = export.save_adapter

    def keep(model: Any, *arguments: Any) -> None:
        made.logits = made.logits_of(model)
        original(model, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "save_adapter", keep)
        run_stages(Request(config, "retrain", False, "tiny.yaml"), StopRequest())
    return made


@pytest.fixture(
    scope="module",
    params=[("bert", "component"), ("roberta", "component"), ("gpt2", "fixed"), ("llama", "component")],
    ids="-".join,
)
def exported(
    request: pytest.FixtureRequest,
    model_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    make_config: Callable[..., RunConfig],
) -> Exported:
    kind, scale = request.param
    arguments = ["--export.merged", "true", "--export.padded", "true", "--retrain.scale", scale]
    arguments += ["--lora.lora_alpha", str(LORA_ALPHA), "--retrain.learning_rate", "3e-2"]
    config = make_config(tmp_path_factory.mktemp("exported"), kind, *arguments)
    return make_export(config, kind, model_folder(kind))


def test_plain_peft_gives_the_runs_own_logits_head_included(exported: Exported) -> None:
    model = PeftModel.from_pretrained(exported.plain_base(), exported.folder.adapter)
    assert torch.equal(exported.logits_of(model), exported.logits)
    assert exported.logits.std() > 1e-3
    untrained = PeftModel.from_pretrained(exported.plain_base(), exported.folder.adapter)
    for name, parameter in untrained.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.allclose(exported.logits_of(untrained), exported.logits, atol=1e-4), "LoRA does something"


def test_merging_keeps_the_function(exported: Exported) -> None:
    model = PeftModel.from_pretrained(exported.plain_base(), exported.folder.adapter).merge_and_unload()
    torch.testing.assert_close(exported.logits_of(model), exported.logits, rtol=1e-5, atol=1e-5)


def test_the_merged_form_loads_without_peft(exported: Exported) -> None:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        exported.folder.merged, output_loading_info=True
    )
    assert not report["missing_keys"]
    torch.testing.assert_close(exported.logits_of(model), exported.logits, rtol=1e-5, atol=1e-5)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert AutoTokenizer.from_pretrained(exported.folder.merged).pad_token == "<pad>"


def test_the_padded_form_has_one_rank_and_the_same_function(exported: Exported) -> None:
    config = json.loads((exported.folder.padded / "adapter_config.json").read_text())
    largest = max(RANKS[exported.kind].values())
    assert config["r"] == largest
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    for name, value in load_file(exported.folder.padded / "adapter_model.safetensors").items():
        if ".lora_A." in name:
            assert value.shape[0] == largest
        if ".lora_B." in name:
            assert value.shape[1] == largest
    model = PeftModel.from_pretrained(exported.plain_base(), exported.folder.padded)
    torch.testing.assert_close(exported.logits_of(model), exported.logits, rtol=1e-5, atol=1e-6)


def test_adapter_config_says_rank_and_scale_of_every_layer(exported: Exported) -> None:
    config = json.loads((exported.folder.adapter / "adapter_config.json").read_text())
    kept = {name: rank for name, rank in RANKS[exported.kind].items() if rank > 0}
    assert config["peft_type"] == "LORA"
    assert config["target_modules"] == sorted(kept), "in an order that does not differ from process to process"
    for name, rank in kept.items():
        assert config["rank_pattern"].get(name, config["r"]) == rank
        scale = config["alpha_pattern"].get(name, config["lora_alpha"]) / rank
        assert scale == pytest.approx(LORA_ALPHA / (K if exported.scale == "component" else rank))
    weights = load_file(exported.folder.adapter / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].removeprefix("base_model.model.") for name in weights if ".lora_" in name} == set(
        kept
    )


def test_metrics_json_counts_what_was_trained(exported: Exported) -> None:
    result = json.loads(exported.folder.metrics.read_text())
    weights = load_file(exported.folder.adapter / "adapter_model.safetensors")
    lora = sum(value.numel() for name, value in weights.items() if ".lora_" in name)
    assert result["lora_parameters"] == lora
    assert result["trainable_parameters"] == sum(value.numel() for value in weights.values())
    ranks = list(RANKS[exported.kind].values())
    assert result["mean_rank"] == pytest.approx(sum(ranks) / len(ranks))
    assert result["steps"] == {"search": None, "retrain": 4}
    assert result["split"] == "test"
    assert result["method"] == "autolora"


def test_a_base_without_pooler_weights_takes_its_new_pooler_along(
    model_folder: Callable[..., Path], tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    from safetensors.torch import save_file

    source, base = model_folder("bert"), tmp_path / "base"
    base.mkdir()
    for path in source.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    weights = {name: v for name, v in load_file(source / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    made = make_export(make_config(tmp_path, "bert", "--model.name", str(base)), "bert", base)
    saved = load_file(made.folder.adapter / "adapter_model.safetensors")
    assert any("pooler" in name for name in saved)
    torch.manual_seed(12345)
    model = PeftModel.from_pretrained(made.plain_base(), made.folder.adapter)
    assert torch.equal(made.logits_of(model), made.logits)


@pytest.mark.parametrize("modules", ["null", "[pooler]"])
def test_a_pooler_that_was_never_trained_is_trained_and_comes_with_the_adapter(
    model_folder: Callable[..., Path], tmp_path: Path, make_config: Callable[..., RunConfig],
    log_lines: list[str], modules: str,
) -> None:  # fmt: skip
    base = model_folder("bert")
    arguments = ["--lora.modules_to_save", modules, "--retrain.learning_rate", "3e-2"]
    made = make_export(make_config(tmp_path, "bert", *arguments), "bert", base)
    saved = load_file(made.folder.adapter / "adapter_model.safetensors")
    (pooler,) = [value for name, value in saved.items() if name.endswith("pooler.dense.weight")]
    assert not torch.equal(pooler, made.plain_base().bert.pooler.dense.weight)
    model = PeftModel.from_pretrained(made.plain_base(), made.folder.adapter)
    assert torch.equal(made.logits_of(model), made.logits)
    assert sum("pooler was never trained" in line for line in log_lines) == 1


@pytest.mark.parametrize("revision", ["v1.2", None])
def test_the_adapter_names_the_revision_of_its_base(
    model_folder: Callable[..., Path], tmp_path: Path, make_config: Callable[..., RunConfig], revision: str | None
) -> None:
    """Plain PEFT would load the newest base under it."""
    arguments = ["--export.padded", "true", "--model.revision", revision or "null"]
    made = make_export(make_config(tmp_path, "bert", *arguments), "bert", model_folder("bert"))
    for folder in (made.folder.adapter, made.folder.padded):
        assert PeftConfig.from_pretrained(folder).revision == revision


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_merging_an_output_layer_leaves_the_embedding_that_shares_its_weight(kind: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer("<s>" if kind == "llama" else "<|endoftext|>")
    settings = make_causal(kind, len(tokenizer)).config
    settings.tie_word_embeddings = True
    base = AutoModelForCausalLM.from_config(settings)
    base.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = attach(base, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM", init_lora_weights=False))
    embedding = base.get_input_embeddings().weight
    assert base.lm_head.base_layer.weight is embedding
    before, ids = embedding.detach().clone(), torch.tensor([[3, 9, 40, 41]])
    with torch.no_grad():
        expected = model.eval()(ids).logits
    export.save_adapter(model, tokenizer, tmp_path / "adapter")
    export.save_merged(model, tokenizer, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert torch.equal(merged.get_input_embeddings().weight, before)
    assert not torch.equal(merged.lm_head.weight, before)
    assert not json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(plain.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_on_a_base_with_a_head_of_other_classes_the_adapter_brings_its_own(
    model_folder: Callable[..., Path], tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    base = tmp_path / "base"
    AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=3).save_pretrained(base)
    AutoTokenizer.from_pretrained(model_folder("bert")).save_pretrained(base)
    made = make_export(make_config(tmp_path, "bert", "--model.name", str(base)), "bert", base)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, ignore_mismatched_sizes=True)
    assert made.logits.shape == (2, 2)
    assert torch.equal(made.logits_of(PeftModel.from_pretrained(plain, made.folder.adapter)), made.logits)
