"""Tiny random models with each kind of loss, a vocabulary of 30, and rows of six tokens for
them."""

from functools import partial
from typing import Any

import torch
from datasets import Dataset
from transformers import BertConfig, GPT2Config, GPT2LMHeadModel

from autolora.problems.tasks.losses import token_loss

NO = -100
TOKENS = [[NO, 1, 2, 0, 1, 2], [NO, NO, NO, NO, NO, 1], [NO, 2, 2, 2, 2, 2], [NO, 1, NO, NO, NO, 1]]


def tiny_bert(kind: type, labels: int = 3) -> Any:
    settings = BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=labels,
        initializer_range=0.5,  # the outputs must differ by more than rounding
    )
    torch.manual_seed(0)
    return kind(settings)


def tiny_gpt2() -> Any:
    torch.manual_seed(0)
    dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=30, n_positions=8, n_embd=8, n_layer=1, n_head=2, **dropout)
    )
    model.loss_function = partial(token_loss, smoothing=0.1)
    return model


def rows_with(labels: list[Any]) -> Dataset:
    """A row of random tokens for each label."""
    ids = torch.randint(
        1, 30, (len(labels), 6), generator=torch.Generator().manual_seed(1)
    ).tolist()
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "labels": labels,
            "length": [6] * len(labels),
            "group": range(len(labels)),
        }
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The rows as one batch."""
    return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}
