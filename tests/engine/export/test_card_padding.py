"""The model card says on which side to pad where the tokenizer's own side would change what the model computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import TaskType
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    set_seed,
)

from autolora.engine.export.card import padding_words
from tests.helpers.tiny import make_tokenizer

GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2}
COMMON: dict[str, Any] = {"vocab_size": 40, "pad_token_id": 0, "initializer_range": 0.3}
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CLASSES, TAGS = TaskType.SEQ_CLS, TaskType.TOKEN_CLS
MODELS: dict[str, tuple[Callable[[], Any], TaskType, bool]] = {
    "BERT": (lambda: BertForSequenceClassification(BertConfig(**COMMON, **SIZES)), CLASSES, True),
    "GPT-2": (lambda: GPT2ForSequenceClassification(GPT2Config(**COMMON, **GPT2)), CLASSES, True),
    "RoBERTa, whose head reads the first token": (
        lambda: RobertaForSequenceClassification(RobertaConfig(**COMMON, **SIZES)), CLASSES, True,
    ),
    "RoBERTa for tags": (lambda: RobertaForTokenClassification(RobertaConfig(**COMMON, **SIZES)), TAGS, False),
    "BERT for tags": (lambda: BertForTokenClassification(BertConfig(**COMMON, **SIZES)), TAGS, True),
    "Llama": (lambda: LlamaForSequenceClassification(LlamaConfig(**COMMON, **SIZES)), CLASSES, False),
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize("case", MODELS)
def test_the_card_speaks_of_padding_only_where_padding_on_the_left_changes_the_model(case: str) -> None:
    """The run pads right in any case, so that a batch of the adapter's own tokenizer gave other logits."""
    make, kind, changes = MODELS[case]
    set_seed(0)
    model = make().eval()
    ids = torch.arange(5, 13)[None]
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], dim=1)
    with torch.no_grad():
        alone = model(input_ids=ids).logits
        beside = model(input_ids=padded, attention_mask=(padded != 0).long()).logits
    assert torch.allclose(alone, beside[:, -alone.shape[1] :] if kind == TAGS else beside, atol=1e-4) != changes
    tokenizer = make_tokenizer()
    tokenizer.cls_token = None if case in ("Llama", "GPT-2") else tokenizer.bos_token
    assert padding_words(kind, tokenizer, model) == "", "it pads right itself"
    tokenizer.padding_side = "left"
    assert ('tokenizer.padding_side = "right"' in padding_words(kind, tokenizer, model)) == changes
