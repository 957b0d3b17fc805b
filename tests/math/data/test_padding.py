"""What a model reads of a row does not depend on the other rows of its batch, whatever side the
tokenizer pads on."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    set_seed,
)

from autolora.configs.tasks import Chat, Table, Tokens
from autolora.problems.tasks.base import Task
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.tags import Tags
from autolora.problems.tasks.texts import Texts
from tests.helpers.tiny import make_tokenizer

WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SPREAD = {"initializer_range": 0.3}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "pad_token_id": 0, **SPREAD}
TEXT = list(range(5, 11))
CASES: dict[str, tuple[Callable[[], Task], Callable[[int], Any], Any]] = {
    "answers": (
        lambda: Conversations(Chat(type="chat", path="x.jsonl"), 0),
        lambda words: GPT2LMHeadModel(GPT2Config(vocab_size=words, **GPT2)),
        [-100, -100, *TEXT[2:]],
    ),
    "classes": (
        lambda: Texts(Table(), 0),
        lambda words: GPT2ForSequenceClassification(GPT2Config(vocab_size=words, **GPT2)),
        1,
    ),
    "tags": (
        lambda: Tags(Tokens(type="tokens", path="x.conll"), 0),
        lambda words: BertForTokenClassification(BertConfig(vocab_size=words, **WIDE, **SPREAD)),
        [1, -100, 0, 1, 1, 0],
    ),
}


def row(ids: list[int], labels: Any) -> dict[str, Any]:
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def outputs(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The logits at the first row's tokens, those of padding left out."""
    found: Tensor = model(
        **{name: value for name, value in batch.items() if name != "labels"}
    ).logits[0]
    return found[batch["attention_mask"][0].bool()] if found.dim() == 2 else found


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("case", CASES)
def test_a_row_is_read_alike_alone_and_beside_a_longer_one(
    float64: None, case: str, side: str
) -> None:
    task, model_of, labels = CASES[case]
    tokenizer = make_tokenizer()
    tokenizer.padding_side = side
    set_seed(0)
    model = model_of(len(tokenizer)).eval()
    collate = task().collate(tokenizer)
    short = row(TEXT, labels)
    other = row(list(range(5, 35)), [-100] * 30 if isinstance(labels, list) else labels)
    expected = outputs(model, {name: torch.tensor([value]) for name, value in short.items()})
    for batch in (collate([short]), collate([short, other])):
        torch.testing.assert_close(outputs(model, batch), expected)
        read = batch["attention_mask"][0].bool()
        assert batch["input_ids"][0][read].tolist() == TEXT
        if isinstance(labels, list):
            assert batch["labels"][0][read].tolist() == labels
            assert set(batch["labels"][0][~read].tolist()) == {-100}
    assert tokenizer.padding_side == side, (
        "the tokenizer, which is stored beside the adapter, keeps its side"
    )
