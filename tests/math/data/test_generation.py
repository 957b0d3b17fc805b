"""Prompts, labels and the loss of text generation."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn

from autolora.configs.tasks import Generation
from autolora.problems.tasks.data_to_text import E2E
from autolora.problems.tasks.prompts import PlainPrompt
from tests.helpers.generation_toys import make_causal, make_tokenizer

SOURCE, TARGET = "name : The Mill | area : riverside", "The Mill is a pub in the riverside."


def e2e(**changes: Any) -> E2E:
    return E2E(Generation(type="generation", benchmark="e2e", metrics=["bleu"], **changes))


def encoded(task: E2E, tokenizer: Any) -> dict[str, Any]:
    row: dict[str, Any] = task.encode(Dataset.from_dict({"source": [SOURCE], "target": [TARGET]}), tokenizer)[0]
    return row


@pytest.mark.parametrize("begin", ["<|endoftext|>", "<s>"])
def test_source_separator_answer_end_with_the_loss_on_the_answer(begin: str) -> None:
    tokenizer = make_tokenizer(begin)
    row = encoded(e2e(), tokenizer)
    assert tokenizer.decode(row["input_ids"]) == f"{SOURCE}{begin} {TARGET}<|endoftext|>"
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == f" {TARGET}<|endoftext|>"
    start = len(row["labels"]) - len(learned)
    assert row["labels"][start:] == row["input_ids"][start:]
    assert row["input_ids"][:start] == PlainPrompt(tokenizer).ids(SOURCE)
    assert row["length"] == len(row["input_ids"])


def test_what_is_too_long_loses_source_first_and_keeps_the_separator(log_lines: list[str]) -> None:
    tokenizer = make_tokenizer("<s>")
    answer = len(tokenizer(" " + TARGET)["input_ids"]) + 1
    row = encoded(e2e(max_length=answer + 4), tokenizer)
    assert len(row["input_ids"]) == answer + 4
    assert row["input_ids"][3] == tokenizer.bos_token_id
    assert row["labels"][4:] == row["input_ids"][4:]
    assert row["labels"][-1] == tokenizer.eos_token_id
    row = encoded(e2e(max_length=6), tokenizer)
    assert row["input_ids"] == [tokenizer.bos_token_id, *tokenizer(" " + TARGET)["input_ids"][:5]]
    assert tokenizer.eos_token_id not in row["labels"], "a cut answer does not end"
    assert PlainPrompt(tokenizer).cut([1, 2, 3], 3) == [1, 2, 3]


def test_a_batch_is_padded_and_the_padding_is_not_learned() -> None:
    tokenizer = make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    task = e2e()
    rows = Dataset.from_dict({"source": [SOURCE, "a"], "target": [TARGET, "b"]})
    batch = task.collate(tokenizer)(list(task.encode(rows, tokenizer)))
    assert type(batch) is dict
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    short = int(batch["attention_mask"][1].sum())
    assert batch["input_ids"].shape == batch["labels"].shape
    assert set(batch["labels"][1, short:].tolist()) == {-100}
    assert int(batch["labels"][1, short - 1]) == tokenizer.eos_token_id


def test_the_loss_is_that_of_the_recipe(float64: None) -> None:
    """(1 - s) nll + s mean_v -log p, over the answer's tokens; without gradients plain nll, which the model has."""
    tokenizer = make_tokenizer()
    model = make_causal("gpt2", len(tokenizer)).double()
    ids = torch.tensor([[*PlainPrompt(tokenizer).ids(SOURCE), 5, 6, 7]])
    labels = ids.clone()
    labels[:, :-3] = -100
    e2e(label_smoothing=0.1).adapt(model)
    logs = nn.functional.log_softmax(model(input_ids=ids).logits, dim=-1)[0, -4:-1]
    nll = -logs[torch.arange(3), labels[0, -3:]].mean()
    expected = 0.9 * nll - 0.1 * logs.mean()
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, expected, rtol=1e-6, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, nll, rtol=1e-6, atol=0)
