"""The base model inside a model with a head, also in code of a repository's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertForSequenceClassification, BertModel, T5Config, T5ForConditionalGeneration

from autolora.configs.training import ModelConfig
from autolora.problems.models.body import bodies_of, in_body
from autolora.problems.models.layers import target_layers
from autolora.problems.models.load import load_base


class Renamed(BertForSequenceClassification):
    """Says that its body is called `model`, and calls it `bert`, as some remote code does."""

    base_model_prefix = "model"


def test_the_body_is_the_named_one_or_the_child_that_is_a_model(model_folder: Callable[..., Path]) -> None:
    folder = model_folder("bert")
    assert bodies_of(BertForSequenceClassification.from_pretrained(folder)) == ("bert",)
    assert bodies_of(Renamed.from_pretrained(folder)) == ("bert",)
    assert bodies_of(BertModel.from_pretrained(folder)) == ()
    assert bodies_of(nn.Linear(1, 1)) == ()


def test_encoder_and_decoder_beside_each_other_are_the_body_and_all_linear_takes_both() -> None:
    """T5ForConditionalGeneration names a child that it does not have; LoRA was in the encoder alone."""
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 32}
    model = T5ForConditionalGeneration(T5Config(**sizes))
    assert bodies_of(model) == ("encoder", "decoder")
    assert in_body(model, "decoder.block.0.layer.0.SelfAttention.q")
    assert not in_body(model, "lm_head")
    found = target_layers(model, ["all-linear"])
    named = get_peft_model(model, LoraConfig(target_modules="all-linear")).targeted_module_names
    assert sorted(found) == sorted(named)
    assert sum(name.startswith("decoder.") for name in found) == 20


@pytest.mark.parametrize("kind", [BertForSequenceClassification, Renamed])
def test_the_body_is_not_taken_for_the_head(
    model_folder: Callable[..., Path], tmp_path: Path, kind: type
) -> None:  # fmt: skip
    """It would have been trained whole, as the task head is."""
    BertForSequenceClassification.from_pretrained(model_folder("bert")).save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path)), kind, num_labels=2)
    assert base.trained_whole == ["classifier"]
