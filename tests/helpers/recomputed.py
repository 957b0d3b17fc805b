"""Accuracy and loss of a model, computed without the program's evaluation."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tests.helpers.tiny import sample


def of_sample(model: Any, tokenizer: Any) -> tuple[float, float]:
    """Accuracy and mean loss on all test rows of the sample task."""
    rows = sample("test")
    labels = torch.tensor(rows["label"])
    with torch.no_grad():
        logits = model.eval()(**tokenizer(rows["sentence"], padding=True, return_tensors="pt")).logits
    accuracy = (logits.argmax(dim=-1) == labels).double().mean()
    return float(accuracy), float(nn.functional.cross_entropy(logits.double(), labels))


def of_tokens(model: Any, rows: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Accuracy and mean loss over all labels of encoded rows of a language model, one row at a time."""
    hits, losses = [], []
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].double()
        known = labels != -100
        hits.append((logits.argmax(dim=-1) == labels)[known])
        losses.append(nn.functional.cross_entropy(logits[known], labels[known], reduction="none"))
    return float(torch.cat(hits).double().mean()), float(torch.cat(losses).mean())
