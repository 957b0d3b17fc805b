"""A tiny classifier with rows and a collator of its own, as a script has them, and a short search on them."""

import random
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autolora.configs.search import SearchConfig
from autolora.engine.api.learning import LearnedRanks, learn_ranks

SHORT = SearchConfig(steps=6, batch_size=8, learning_rate=1e-2, selection_learning_rate=5e-2, log_every=2)


def classifier(folder: Path) -> Any:
    """The tiny BERT with a head."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)


def class_rows(count: int = 32) -> list[dict[str, Any]]:
    """Sentences of random words with two classes."""
    draw = random.Random(0)
    return [{"input_ids": [1, *draw.choices(range(4, 60), k=5 + i % 3), 2], "labels": i % 2} for i in range(count)]


def padded(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The examples as one batch."""
    longest = max(len(example["input_ids"]) for example in examples)
    ids = [example["input_ids"] + [0] * (longest - len(example["input_ids"])) for example in examples]
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": torch.tensor(ids), "attention_mask": (torch.tensor(ids) > 0).long(), "labels": labels}


def settings(**changes: Any) -> LoraConfig:
    """LoRA on query and value of the tiny BERT."""
    return LoraConfig(
        **{"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 16, "target_modules": ["query", "value"], **changes}
    )


def learn(model: Any, rows: Any = None, config: Any = None, **options: Any) -> LearnedRanks:
    """Learns ranks by a short search (SHORT, unless `options` has another)."""
    return learn_ranks(
        model, class_rows() if rows is None else rows, settings() if config is None else config,
        **{"collate": padded, "search": SHORT, "precision": "fp32", **options},
    )  # fmt: skip
