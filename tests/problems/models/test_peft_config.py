"""PEFT's LoraConfig as the search's settings."""

from typing import Any

import pytest
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from autolora.configs.errors import UserError
from autolora.problems.models.peft_config import lora_settings, refuse_other_configs, trained_whole


@pytest.fixture(scope="module")
def llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=9,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=1,
            num_key_value_heads=1,
            intermediate_size=8,
        )
    )


def named(*layers: str) -> list[str]:
    return [f"model.layers.{layer}_proj" for layer in layers]


def test_every_setting_arrives(llama: Any) -> None:
    config = LoraConfig(
        r=3,
        lora_alpha=6,
        lora_dropout=0.1,
        target_modules=["v_proj", "q_proj"],
        modules_to_save=["norm"],
    )
    found = lora_settings(config, llama)
    assert (found.k, found.lora_alpha, found.dropout) == (3, 6.0, 0.1)
    assert found.modules_to_save == ["norm"]
    assert trained_whole(llama, config, found).trained_whole == ["model.norm"]


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("all-linear", ["all-linear"]),
        (r".*\.1\..*q_proj", named("1.self_attn.q")),
        (
            ["v_proj", "1.self_attn.q_proj"],
            named("0.self_attn.v", "1.self_attn.q", "1.self_attn.v"),
        ),
        (None, named("0.self_attn.q", "0.self_attn.v", "1.self_attn.q", "1.self_attn.v")),
    ],
)
def test_targets_mean_what_they_mean_in_peft(llama: Any, targets: Any, names: list[str]) -> None:
    assert lora_settings(LoraConfig(target_modules=targets), llama).target_modules == names


@pytest.mark.parametrize(
    "config",
    [
        AdaLoraConfig(target_modules=["q_proj"], total_step=9),
        LoraConfig(target_modules=["q_proj"], use_dora=True),
        LoraConfig(target_modules=["q_proj"], init_lora_weights=False),
    ],
)
def test_an_adapter_that_the_search_would_not_learn_is_refused(config: Any) -> None:
    with pytest.raises(UserError, match=r"^lora_config: \w+ is not allowed"):
        refuse_other_configs(config)


def test_a_config_that_a_model_has_used_is_taken(llama: Any) -> None:
    """PEFT fills in the base model's name, and leaves the module types that it adds by itself."""
    config = LoraConfig(
        target_modules={"q_proj"}, task_type="SEQ_CLS", modules_to_save=["classifier", "score"]
    )
    config.base_model_name_or_path = "org/base"
    config.inference_mode = True
    refuse_other_configs(config)
    found = lora_settings(config, llama)
    assert found.modules_to_save == []
    assert trained_whole(llama, config, found).trained_whole == []


def test_every_head_that_peft_trains_is_known() -> None:
    """PEFT trains all modules whose names end in `classifier`; of DistilBERT's head only one had
    been known, so that what the other gained was said to be LoRA's."""
    settings = DistilBertConfig(
        vocab_size=9, dim=8, n_layers=1, n_heads=1, hidden_dim=8, num_labels=2
    )
    model = DistilBertForSequenceClassification(settings)
    wrapper: Any = nn.Module()
    wrapper.net = model
    wrapper.config = model.config
    for given, place in ((model, ""), (wrapper, "net.")):
        config = LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"])
        known = trained_whole(given, config, lora_settings(config, given)).trained_whole
        assert known == [f"{place}pre_classifier", f"{place}classifier"]
    peft_model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"]))
    trained = {
        name
        for name, weight in peft_model.named_parameters()
        if weight.requires_grad and "lora" not in name
    }
    assert {name.split(".")[2] for name in trained} == {"pre_classifier", "classifier"}
