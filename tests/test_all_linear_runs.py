"""LoRA on every linear layer, by PEFT's word: search, retraining, and the adapter in plain PEFT's hands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.layers import target_layers
from tests.helpers.methods import run
from tests.helpers.tiny import make_tokenizer, tiny_arguments

WORD = ("--lora.target_modules", "all-linear")
SEARCH = ("--lora.lora_alpha", "6", "--retrain.init", "search")


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", pytest.param("roberta", marks=pytest.mark.slow), "gpt2", "llama"])
def test_a_search_over_all_linear_layers_ends_with_an_adapter_of_named_layers(
    model_folder: Callable[..., Path], tiny_config: Callable[..., RunConfig], kind: str
) -> None:
    base = model_folder(kind)
    done = run(tiny_config(*WORD, *SEARCH, kind=kind), base)
    layers = target_layers(done.plain_base(), ["all-linear"])
    record = ranks.load(done.folder.ranks)
    assert [layer.name for layer in record.layers] == layers
    settings = json.loads((done.folder.adapter / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(record.kept)
    assert yaml.safe_load(done.folder.config.read_text())["lora"]["target_modules"] == ["all-linear"]
    plain = PeftModel.from_pretrained(done.plain_base(), done.folder.adapter)
    assert torch.equal(done.logits_of(plain), done.logits)


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("method", ["lora", "lora_random", "adalora"])
def test_the_methods_put_lora_on_the_same_layers(
    model_folder: Callable[..., Path], tiny_config: Callable[..., RunConfig], method: str
) -> None:
    done = run(tiny_config(*WORD, "--method", method, "--retrain.max_steps", "10"), model_folder("bert"))
    found = [layer.name for layer in ranks.load(done.folder.ranks).layers]
    assert sorted(found) == sorted(target_layers(done.plain_base(), ["all-linear"]))
    plain = PeftModel.from_pretrained(done.plain_base(), done.folder.adapter)
    torch.testing.assert_close(done.logits_of(plain), done.logits)


@pytest.mark.trains
def test_more_layers_than_peft_keeps_the_names_of(tmp_path: Path) -> None:
    """It shortens a list of twenty names or more to endings, which must not take the pooler (a `dense`, too) along."""
    base, tokenizer = tmp_path / "base", make_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=80, **sizes)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    done = run(parse([*tiny_arguments(base, tmp_path), *WORD, "--method", "lora"]).config, base)
    weights = load_file(done.folder.adapter / "adapter_model.safetensors")
    found = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in weights if ".lora_" in name}
    assert found == set(target_layers(done.plain_base(), ["all-linear"]))
    assert len(found) == 24


@pytest.mark.trains
def test_a_module_that_is_trained_whole_stays_out(
    model_folder: Callable[..., Path], tiny_config: Callable[..., RunConfig]
) -> None:
    done = run(tiny_config(*WORD, "--lora.modules_to_save", "[layer.1.intermediate]"), model_folder("bert"))
    weights = load_file(done.folder.adapter / "adapter_model.safetensors")
    inside = {name for name in weights if "layer.1.intermediate" in name}
    assert {name.split("intermediate.")[1] for name in inside} == {"dense.weight", "dense.bias"}
    plain = PeftModel.from_pretrained(done.plain_base(), done.folder.adapter)
    assert torch.equal(done.logits_of(plain), done.logits)


@pytest.mark.trains
def test_the_bare_word_and_a_list_with_it_are_one_setting(tiny_config: Callable[..., RunConfig]) -> None:
    """A search that was started with one resumes with the other."""

    def finish(config: RunConfig, stage: str) -> RunFolder:
        return run_stages(Request(config, stage, False, "x"), StopRequest(), draw=False)  # type: ignore[arg-type]

    finish(tiny_config(*WORD), "search")
    assert finish(tiny_config("--lora.target_modules", "[all-linear]"), "all").metrics.exists()
