"""PEFT's LoraConfig as the search's settings."""

from typing import Any

import pytest
from peft import AdaLoraConfig, IA3Config, LoraConfig, get_peft_model
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from autolora.configs.errors import UserError
from autolora.problems.models.given import lora_settings, trained_whole
from autolora.problems.models.whole import _OF_PEFT


@pytest.fixture(scope="module")
def llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1,
            intermediate_size=8,
        )
    )  # fmt: skip


def test_every_setting_arrives(llama: Any) -> None:
    config = LoraConfig(
        r=3, lora_alpha=6, lora_dropout=0.1, target_modules=["v_proj", "q_proj"], modules_to_save=["norm"]
    )
    found = lora_settings(config, llama)
    assert (found.k, found.lora_alpha, found.dropout) == (3, 6.0, 0.1)
    assert (found.target_modules, found.modules_to_save) == (["q_proj", "v_proj"], ["norm"])


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("all-linear", ["all-linear"]),
        (r".*\.1\..*q_proj", ["model.layers.1.self_attn.q_proj"]),
        (None, ["q_proj", "v_proj"]),
    ],
)
def test_targets_mean_what_they_mean_in_peft(llama: Any, targets: Any, names: list[str]) -> None:
    assert lora_settings(LoraConfig(target_modules=targets), llama).target_modules == names


def test_a_model_for_which_peft_has_no_default_needs_names() -> None:
    with pytest.raises(UserError, match=r"^lora_config: target_modules is None, and PEFT has no default"):
        lora_settings(LoraConfig(), nn.Linear(1, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [IA3Config, AdaLoraConfig])
def test_another_kind_of_adapter_is_refused(llama: Any, kind: Any) -> None:
    config = kind(target_modules=["q_proj"], **({"total_step": 9} if kind is AdaLoraConfig else {}))
    with pytest.raises(UserError, match=rf"^lora_config: {kind.__name__}.* is not allowed"):
        lora_settings(config, llama)


def test_a_config_that_a_model_has_used_is_taken(llama: Any) -> None:
    """PEFT fills in the base model's name, and leaves the module types that it adds by itself."""
    config = LoraConfig(target_modules={"q_proj"}, task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    config.base_model_name_or_path, config.inference_mode = "org/base", True
    found = lora_settings(config, llama)
    assert found.modules_to_save == []
    assert trained_whole(llama, config, found).trained_whole == []


def test_modules_trained_whole_have_full_names(llama: Any) -> None:
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"])
    assert trained_whole(llama, config, lora_settings(config, llama)).trained_whole == ["model.norm"]


def test_every_head_that_peft_trains_is_known() -> None:
    """PEFT trains all modules whose names end in `classifier`; of DistilBERT's head only one had been known, so that
    what the other gained was said to be LoRA's."""
    settings = DistilBertConfig(vocab_size=9, dim=8, n_layers=1, n_heads=1, hidden_dim=8, num_labels=2)
    model = DistilBertForSequenceClassification(settings)
    wrapper: Any = nn.Module()
    wrapper.net, wrapper.config = model, model.config
    for given, place in ((model, ""), (wrapper, "net.")):
        config = LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"])
        known = trained_whole(given, config, lora_settings(config, given)).trained_whole
        assert known == [f"{place}pre_classifier", f"{place}classifier"]
    peft_model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"]))
    trained = {name for name, weight in peft_model.named_parameters() if weight.requires_grad and "lora" not in name}
    assert {name.split(".")[2] for name in trained} == {"pre_classifier", "classifier"}


def test_a_module_whose_name_is_the_end_of_another_is_refused() -> None:
    model: Any = nn.Module()
    model.q, model.head, model.aux_head = (nn.Linear(4, 4) for _ in range(3))
    config = LoraConfig(target_modules=["q"], modules_to_save=["head"])
    with pytest.raises(
        UserError, match=r"^--lora\.modules_to_save: head is not allowed, as PEFT would train aux_head"
    ):
        trained_whole(model, config, lora_settings(config, model))
    both = LoraConfig(target_modules=["q"], modules_to_save=["head", "aux_head"])
    assert trained_whole(model, both, lora_settings(both, model)).trained_whole == ["head", "aux_head"]


@pytest.mark.parametrize(("name", "of_peft"), [("out", "lora_dropout"), ("layer", "base_layer"), ("A", "lora_A")])
def test_a_module_whose_name_is_the_end_of_a_module_of_peft_is_refused(name: str, of_peft: str) -> None:
    """PEFT raised a TypeError about a ModuleDict, or trained the layer under the LoRA whole. Inside another module
    the name is longer, and matches that module alone."""
    model: Any = nn.Module()
    model.q = nn.Linear(4, 4)
    model.add_module(name, nn.Linear(4, 4))
    config = LoraConfig(target_modules=["q"], modules_to_save=[name])
    line = rf"^--lora\.modules_to_save: {name} is not allowed, as PEFT would take its own {of_peft}, .*; rename the m"
    with pytest.raises(UserError, match=line):
        trained_whole(model, config, lora_settings(config, model))
    around: Any = nn.Module()
    around.net = model
    assert trained_whole(around, config, lora_settings(config, around)).trained_whole == [f"net.{name}"]
    peft_model = get_peft_model(around, LoraConfig(target_modules=["net.q"], modules_to_save=[f"net.{name}"]))
    trained = {
        weight for weight, value in peft_model.named_parameters() if value.requires_grad and "lora_" not in weight
    }
    assert trained == {f"base_model.model.net.{name}.modules_to_save.default.{kind}" for kind in ("weight", "bias")}


def test_the_modules_of_peft_that_a_name_may_end_are_all_known() -> None:
    peft_model = get_peft_model(nn.Sequential(nn.Linear(4, 4)), LoraConfig(target_modules=["0"]))
    inside = {name for name, _ in peft_model.base_model.model[0].named_modules() if name}
    assert {word for name in inside for word in name.split(".")} == set(_OF_PEFT)


def test_a_dot_in_a_name_that_peft_reads_as_any_letter_is_refused() -> None:
    model: Any = nn.Module()
    model.enc, model.enc_q = nn.Module(), nn.Linear(4, 4)
    model.enc.q = nn.Linear(4, 4)
    with pytest.raises(UserError, match=r"^lora_config: target_modules: layer 'enc\.q' .* to 'enc_q' too"):
        lora_settings(LoraConfig(target_modules=["enc.q", "enc_q"]), model)


@pytest.mark.parametrize("layer", ["fc", "0"])
def test_a_layer_that_peft_could_not_tell_from_another_is_refused(layer: str) -> None:
    """PEFT's patterns match endings of names: both layers would get the rank of one."""
    inner = nn.Module()
    inner.add_module(layer, nn.Linear(4, 4))
    model: Any = nn.Module()
    model.add_module(layer, nn.Linear(4, 4))
    model.add_module("block", inner)
    with pytest.raises(UserError, match=rf"^lora_config: target_modules: layer '{layer}' .* to 'block\.{layer}' too"):
        lora_settings(LoraConfig(target_modules=layer if layer == "fc" else [layer]), model)
    assert lora_settings(LoraConfig(target_modules=[f"block.{layer}"]), model).target_modules == [f"block.{layer}"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"r": 4.5}, r"^lora_config\.k: .* integer.*; given: 4\.5$"),
        ({"lora_alpha": None}, r"^lora_config\.lora_alpha: .* number; given: None$"),
        ({"modules_to_save": "norm"}, r"^lora_config: modules_to_save='norm' is not allowed; allowed: a list"),
        (
            {"target_modules": "(q_proj"},
            r"^lora_config: target_modules='\(q_proj' is no regular expression: missing \)",
        ),
    ],
)
def test_a_field_of_a_wrong_type_is_one_line(llama: Any, fields: dict[str, Any], line: str) -> None:
    config = LoraConfig(**({"target_modules": ["q_proj"]} | fields))
    with pytest.raises(UserError, match=line):
        lora_settings(config, llama)


@pytest.mark.parametrize(("kind", "lacks"), [("SEQ_CLS", "config"), ("CAUSAL_LM", "prepare_inputs_for_generation")])
def test_a_task_type_that_peft_cannot_give_to_the_model_is_refused(kind: str, lacks: str) -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(UserError, match=rf"^lora_config: task_type='{kind}' .* Sequential, which has no {lacks}; "):
        lora_settings(LoraConfig(target_modules=["0"], task_type=kind), model)
